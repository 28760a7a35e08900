-- name: people
-- The users with this id or e-mail address. $1.
SELECT $1::text AS id
UNION
SELECT id FROM service.users WHERE position('@' IN $1::text) > 0 AND (lower(email) = lower($1::text) OR lower(mail_address) = lower($1::text))

-- name: find
-- Messages, newest first. $1 users, $2 job, $3 channel, $4 state, $5 reason, $6 run, $7 before id: NULL is any; $8 limit.
-- Looked for apart: those whose state lies in service.delivery, and mails; so each is read by its own indexes.
WITH found AS MATERIALIZED (
(SELECT d.id FROM service.delivery AS d
WHERE d.state <> 'in_delivery_state' AND ($3::text IS NULL OR d.channel = $3) AND ($4::text IS NULL OR d.state = $4)
  AND ($5::text IS NULL OR d.reason = $5)
  AND ($1::text[] IS NULL OR d.user_id = ANY ($1)) AND ($2::text IS NULL OR d.job = $2)
  AND ($6::bigint IS NULL OR d.run_id = $6) AND ($7::bigint IS NULL OR d.id < $7)
ORDER BY d.id DESC LIMIT $8)
UNION ALL
(SELECT s.id FROM service.delivery_state AS s JOIN service.delivery AS d USING (id)
WHERE ($3::text IS NULL OR $3 = 'email') AND ($4::text IS NULL OR s.state = $4) AND ($5::text IS NULL OR s.reason = $5)
  AND ($4::text IS NULL OR $4 <> 'planned' OR s.claim IS NULL)
  AND ($4::text IS NULL OR $4 NOT IN ('claimed', 'sending')
       OR s.id = ANY (ARRAY(SELECT unnest(deliveries) FROM service.delivery_claim)))
  AND ($4::text IS NULL OR $4 IN ('planned', 'claimed', 'sending', 'sent') OR s.problem = $4)
  AND ($1::text[] IS NULL OR d.user_id = ANY ($1)) AND ($2::text IS NULL OR d.job = $2)
  AND ($6::bigint IS NULL OR d.run_id = $6) AND ($7::bigint IS NULL OR s.id < $7 AND d.id < $7)
ORDER BY s.id DESC LIMIT $8)
)
SELECT id, channel, job, run_id, user_id, recipient_name, local_date, state, reason, not_before, settled_at, planned_at, attempt,
       expires_at, dot_at, resends, message_id, unconfirmed_policy, domain, smtp_code, smtp_reply
FROM service.delivery_with_state WHERE id = ANY (ARRAY(SELECT id FROM found ORDER BY id DESC LIMIT $8)) ORDER BY id DESC

-- name: message
-- One message with its run, its stages and its notification. $1: id.
SELECT d.*, r.nominal_at, r.trigger, r.nominal_local, service.now() AS now,
       n.title, n.message, n.action, n.priority, n.read_at, n.delivered_at, n.withdrawn_at,
       (SELECT array_agg(s.stage_key ORDER BY s.stage_key) FROM service.delivery_stage AS s WHERE s.delivery_id = d.id)
           AS stages,
       (SELECT o.id FROM service.delivery_with_state AS o WHERE o.dedupe_key = d.dedupe_key AND o.channel <> d.channel) AS other,
       p.until AS paused_until, p.reply AS pause_reply
FROM service.delivery_with_state AS d
LEFT JOIN service.domain_pause AS p ON p.domain = d.domain AND p.until > service.now()
LEFT JOIN service.job_run AS r ON r.id = d.run_id
LEFT JOIN service.notification AS n ON n.delivery_id = d.id
WHERE d.id = $1
