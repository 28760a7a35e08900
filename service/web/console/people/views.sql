-- name: find
-- People of an id, an e-mail address, or a beginning of either or of the name. $1 text, $2 how many.
SELECT id, name, email, timezone, active FROM service.users
WHERE id = $1 OR lower(email) = lower($1) OR starts_with(id, $1) OR starts_with(lower(email), lower($1))
   OR starts_with(lower(name), lower($1))
ORDER BY id = $1 DESC, lower(email) = lower($1) DESC NULLS LAST, id LIMIT $2

-- name: person
-- Somebody as jobs see them, with what they told us and what is known of their habits. $1: id.
SELECT r.*, service.now() AS now, coalesce(z.used, service.default_zone()) AS dashboard_timezone,
       p.figures, p.as_of AS profile_as_of,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = r.id) AS overrides,
       (SELECT jsonb_build_object('reason', s.reason, 'detail', s.detail)
        FROM service.suppression AS s WHERE s.address = lower(r.email)) AS suppression
FROM service.recipient AS r JOIN service.users AS u USING (id)
LEFT JOIN service.zone AS z ON service.zone_key(z.name) = service.zone_key(u.timezone)
LEFT JOIN service.user_profile AS p ON p.user_id = r.id
WHERE r.id = $1

-- name: jobs
-- The reminders as they are registered, and what each last came to for somebody. $1: their id.
SELECT d.job, d.cron, d.mode, d.paused_at IS NOT NULL AND coalesce(d.paused_until > service.now(), true) AS paused,
       last.what, last.reason, last.local_date
FROM service.job_def AS d
LEFT JOIN LATERAL (
    (SELECT local_date, state AS what, reason, planned_at AS at FROM service.delivery
     WHERE user_id = $1 AND job = d.job ORDER BY local_date DESC, id DESC LIMIT 1)
    UNION ALL
    (SELECT local_date, 'not sent', reason, decided_at FROM service.decision
     WHERE user_id = $1 AND job = d.job ORDER BY local_date DESC, run_id DESC LIMIT 1)
    ORDER BY at DESC LIMIT 1) AS last ON true
WHERE d.job LIKE 'reminder.%' ORDER BY d.job

-- name: planned
-- What is on its way to somebody. $1: their id.
SELECT id, job, channel, state, not_before FROM service.delivery
WHERE user_id = $1 AND state IN ('planned', 'claimed', 'sending') ORDER BY not_before, id LIMIT 20

-- name: history
-- What somebody got and did not get, the newest first. $1 their id, $2 before (NULL: from now), $3 how many.
SELECT * FROM (
    (SELECT planned_at AS at, id AS message, run_id, job, channel, state AS what, reason, detail, local_date
     FROM service.delivery WHERE user_id = $1 AND ($2::timestamptz IS NULL OR planned_at < $2)
     ORDER BY planned_at DESC LIMIT $3)
    UNION ALL
    (SELECT decided_at, NULL, run_id, job, NULL, 'not sent', reason, detail, local_date
     FROM service.decision WHERE user_id = $1 AND ($2::timestamptz IS NULL OR decided_at < $2)
     ORDER BY decided_at DESC LIMIT $3)) AS both_kinds
ORDER BY at DESC, message LIMIT $3
