-- name: people
-- The users with this id or e-mail address. $1.
SELECT $1::text AS id
UNION
SELECT id FROM service.users WHERE position('@' IN $1::text) > 0 AND lower(email) = lower($1::text)

-- name: find
-- Messages, newest first. $1 users, $2 job, $3 channel, $4 state, $5 reason, $6 run, $7 before id: NULL is any; $8 limit.
SELECT d.id, d.channel, d.job, d.run_id, d.user_id, d.recipient_name, d.local_date, d.state, d.reason, d.not_before,
       d.settled_at, d.planned_at, d.attempt, d.expires_at, d.dot_at, d.resends, d.message_id, d.unconfirmed_policy, d.domain,
       d.smtp_code, d.smtp_reply
FROM service.delivery_with_state AS d
WHERE ($1::text[] IS NULL OR d.user_id = ANY ($1)) AND ($2::text IS NULL OR d.job = $2)
  AND ($3::text IS NULL OR d.channel = $3) AND ($4::text IS NULL OR d.state = $4)
  AND ($4::text IS NULL OR $4 IN ('planned', 'claimed', 'sending', 'sent') OR d.problem = $4)
  AND ($5::text IS NULL OR d.reason = $5) AND ($6::bigint IS NULL OR d.run_id = $6)
  AND ($7::bigint IS NULL OR d.id < $7)
ORDER BY d.id DESC LIMIT $8

-- name: message
-- One message with its run, its stages and its notification. $1: id.
SELECT d.*, r.nominal_at, r.trigger, r.nominal_local, service.now() AS now,
       n.title, n.message, n.action, n.priority, n.read_at, n.delivered_at, n.withdrawn_at,
       (SELECT array_agg(s.stage_key ORDER BY s.stage_key) FROM service.delivery_stage AS s WHERE s.delivery_id = d.id)
           AS stages,
       (SELECT o.id FROM service.delivery_with_state AS o WHERE o.dedupe_key = d.dedupe_key AND o.channel <> d.channel) AS other
FROM service.delivery_with_state AS d
LEFT JOIN service.job_run AS r ON r.id = d.run_id
LEFT JOIN service.notification AS n ON n.delivery_id = d.id
WHERE d.id = $1
