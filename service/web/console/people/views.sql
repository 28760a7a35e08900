-- name: find
-- People whose id or e-mail address is this, or whose id, address or name begins with it. $1 text, $2 limit.
SELECT id, name, email, timezone, active FROM service.users
WHERE id = $1 OR lower(email) = lower($1) OR lower(mail_address) = lower($1) OR starts_with(id, $1) OR starts_with(lower(email), lower($1))
   OR starts_with(lower(name), lower($1))
ORDER BY id = $1 DESC, lower(email) = lower($1) DESC NULLS LAST, id LIMIT $2

-- name: person
-- A person as jobs see them, with preference overrides, suppression and profile. $1: id.
SELECT r.*, service.now() AS now, z.used AS dashboard_timezone,
       p.figures, p.as_of AS profile_as_of,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = r.id) AS overrides,
       (SELECT jsonb_build_object('id', s.id, 'reason', s.reason, 'detail', s.detail, 'until', s.until)
        FROM service.suppressed_address AS s WHERE s.address = r.mail_address ORDER BY s.until DESC NULLS FIRST LIMIT 1) AS suppression
FROM service.recipient AS r JOIN service.users AS u USING (id)
JOIN service.zone AS z ON z.name = u.timezone
LEFT JOIN service.user_profile AS p ON p.user_id = r.id
WHERE r.id = $1

-- name: jobs
-- The registered reminders, and the last result of each for a person. $1: their id, $2 packed.
WITH refused AS MATERIALIZED (
    SELECT DISTINCT ON (job) job, local_date, reason, decided_at FROM service.refusals_of($2)
    ORDER BY job, local_date DESC, run_id DESC
)
SELECT d.job, d.cron, d.mode, d.paused_at IS NOT NULL AND coalesce(d.paused_until > service.now(), true) AS paused,
       last.what, last.reason, last.local_date
FROM service.job_def AS d
LEFT JOIN LATERAL (
    (SELECT local_date, state AS what, reason, planned_at AS at FROM service.delivery_with_state
     WHERE user_id = $1 AND job = d.job ORDER BY local_date DESC, id DESC LIMIT 1)
    UNION ALL
    (SELECT local_date, 'not sent', reason, decided_at FROM refused WHERE job = d.job)
    ORDER BY at DESC LIMIT 1) AS last ON true
WHERE d.job LIKE 'reminder.%' ORDER BY d.job

-- name: planned
-- Messages that are planned or being sent to a person. $1: their id.
SELECT id, job, channel, state, not_before FROM service.delivery_with_state
WHERE user_id = $1 AND state IN ('planned', 'claimed', 'sending') ORDER BY not_before, id LIMIT 20

-- name: history
-- What a person got and did not get, the newest first. $1 their id, $2 before (NULL: any), $3 limit, $4 their id
-- packed.
SELECT * FROM (
    (SELECT planned_at AS at, id AS message, run_id, job, channel, state AS what, reason, detail, local_date
     FROM service.delivery_with_state WHERE user_id = $1 AND ($2::timestamptz IS NULL OR planned_at < $2)
     ORDER BY planned_at DESC LIMIT $3)
    UNION ALL
    (SELECT decided_at, NULL, run_id, job, NULL, 'not sent', reason, detail, local_date
     FROM service.refusals_of($4) WHERE $2::timestamptz IS NULL OR decided_at < $2
     ORDER BY decided_at DESC LIMIT $3)) AS both_kinds
ORDER BY at DESC, message LIMIT $3
