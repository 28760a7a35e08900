-- name: limit_idle_time
-- End the transaction of a process that hangs while it writes, so that its rows are released.
SELECT set_config('idle_in_transaction_session_timeout', '60s', true)

-- name: claim
-- Notifications of our jobs ($3) to write into the dashboard now, oldest first, with the recipients' choices. They are
-- locked until the end of the transaction.
WITH due AS (
    SELECT * FROM service.notification AS n
    WHERE write_at <= service.now() AND (SELECT service.fits($2))
      AND EXISTS (SELECT FROM service.delivery AS d WHERE d.id = n.delivery_id AND d.job = ANY ($3::text[]))
    ORDER BY write_at, id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
SELECT n.id, n.delivery_id, d.dedupe_key, d.job, d.kind, d.user_id, d.zone, d.message_date, d.template, d.locale, d.facts, n.type, n.title, n.message,
       n.data, n.priority, n.action, n.visible_from, n.expires_at, n.read_at,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = d.user_id) AS overrides,
       (SELECT z.used FROM service.zone AS z WHERE z.name = s.timezone) AS own_zone,
       false AS suppressed, s.paused_until, service.now() AS claimed_at, NULL AS past,
       CASE WHEN s.quiet_start IS NOT NULL THEN jsonb_build_array(s.quiet_start, s.quiet_end) END AS quiet
FROM due AS n JOIN service.delivery AS d ON d.id = n.delivery_id
LEFT JOIN service.recipient_setting AS s ON s.user_id = d.user_id
ORDER BY n.write_at, n.id

-- name: record_written
-- The dashboard has these, with this text.
WITH delivered AS (
    UPDATE service.notification AS n SET delivered_at = service.now(), write_at = NULL, title = w.title,
        message = w.message, data = w.data, priority = w.priority, action = w.action
    FROM jsonb_to_recordset($1::jsonb) AS w(id bigint, title text, message text, data jsonb, priority text, action jsonb)
    WHERE n.id = w.id RETURNING n.delivery_id
)
UPDATE service.delivery SET settled_at = service.now(), reason = NULL, detail = NULL
WHERE id IN (SELECT delivery_id FROM delivered)

-- name: withdraw
-- Notifications that are no longer valid; the reason is stored with the delivery.
WITH withdrawn AS (
    UPDATE service.notification AS n SET withdrawn_at = service.now(), write_at = NULL
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS g(id, state, reason)
    WHERE n.id = g.id RETURNING n.delivery_id, g.state, g.reason
)
UPDATE service.delivery AS d SET state = withdrawn.state, reason = withdrawn.reason, settled_at = service.now()
FROM withdrawn WHERE d.id = withdrawn.delivery_id

-- name: postpone
-- Notifications to try again later, and why.
WITH postponed AS (
    UPDATE service.notification AS n SET write_at = p.at
    FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[]) AS p(id, at, reason, detail)
    WHERE n.id = p.id RETURNING n.delivery_id, p.reason, p.detail
)
UPDATE service.delivery AS d SET reason = postponed.reason, detail = postponed.detail
FROM postponed WHERE d.id = postponed.delivery_id
