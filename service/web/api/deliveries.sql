-- name: search
-- Messages, newest first, without addresses and facts. NULL means any: $1 user, $2 job, $3 state, $4 before id, $6 reason,
-- $7 channel, $8 and $9 first and last local date, $10 and $11 where addresses (lower case) begin and end; $5 limit.
-- Local dates go nearly with ids: the lowest and the highest id of the days asked for spare reading all before and after.
-- Looked for apart: those whose state lies in service.delivery, and mails; so each is read by its own indexes; "+ 0": by id, not by date.
WITH days AS MATERIALIZED (
    SELECT (SELECT min(one.id) FROM service.delivery_days($8, $9) AS day CROSS JOIN LATERAL (
                SELECT id FROM service.delivery WHERE local_date = day ORDER BY id LIMIT 1) AS one) AS lowest,
           (SELECT max(one.id) FROM service.delivery_days($8, $9) AS day CROSS JOIN LATERAL (
                SELECT id FROM service.delivery WHERE local_date = day ORDER BY id DESC LIMIT 1) AS one) AS highest
    WHERE $8::date IS NOT NULL OR $9::date IS NOT NULL
), found AS MATERIALIZED (
(SELECT d.id FROM service.delivery AS d
WHERE d.state <> 'in_delivery_state' AND ($3::text IS NULL OR d.state = $3) AND ($6::text IS NULL OR d.reason = $6)
  AND ($7::text IS NULL OR d.channel = $7) AND ($10::text IS NULL OR d.channel = 'email')
  AND ($1::text IS NULL OR d.user_id = $1) AND ($2::text IS NULL OR d.job = $2) AND ($4::bigint IS NULL OR d.id < $4)
  AND ($8::date IS NULL OR d.local_date + 0 >= $8) AND ($9::date IS NULL OR d.local_date + 0 <= $9)
  AND ($8::date IS NULL AND $9::date IS NULL OR d.id BETWEEN (SELECT lowest FROM days) AND (SELECT highest FROM days))
  AND ($10::text IS NULL OR (lower(d.address) COLLATE "C" >= $10 AND lower(d.address) COLLATE "C" < $11))
ORDER BY d.id DESC LIMIT $5)
UNION ALL
(SELECT s.id FROM service.delivery_state AS s JOIN service.delivery AS d USING (id)
WHERE ($3::text IS NULL OR s.state = $3) AND ($6::text IS NULL OR s.reason = $6) AND ($7::text IS NULL OR $7 = 'email')
  AND ($3::text IS NULL OR $3 <> 'planned' OR s.claim IS NULL)
  AND ($3::text IS NULL OR $3 NOT IN ('claimed', 'sending')
       OR s.id = ANY (ARRAY(SELECT unnest(deliveries) FROM service.delivery_claim)))
  AND ($3::text IS NULL OR $3 IN ('planned', 'claimed', 'sending', 'sent') OR s.problem = $3)
  AND ($1::text IS NULL OR d.user_id = $1) AND ($2::text IS NULL OR d.job = $2) AND ($4::bigint IS NULL OR s.id < $4 AND d.id < $4)
  AND ($8::date IS NULL OR d.local_date + 0 >= $8) AND ($9::date IS NULL OR d.local_date + 0 <= $9)
  AND ($8::date IS NULL AND $9::date IS NULL OR s.id BETWEEN (SELECT lowest FROM days) AND (SELECT highest FROM days))
  AND ($10::text IS NULL OR (lower(d.address) COLLATE "C" >= $10 AND lower(d.address) COLLATE "C" < $11))
ORDER BY s.id DESC LIMIT $5)
)
SELECT id, dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, state, reason, detail, attempt, resends,
       message_id, planned_at, not_before, expires_at, dot_at, settled_at, smtp_code, smtp_reply
FROM service.delivery_with_state WHERE id = ANY (ARRAY(SELECT id FROM found ORDER BY id DESC LIMIT $5)) ORDER BY id DESC

-- name: adopt
-- A mail that an earlier release planned. $1 id.
SELECT service.adopt_deliveries(ARRAY[$1::bigint])

-- name: lock
-- Nobody changes how a mail stands until the act is over. $1 id.
SELECT FROM service.delivery_state WHERE id = $1 FOR UPDATE

-- name: state
-- How a message stands. $1 id.
SELECT d.channel, d.state, d.expires_at, d.expires_at <= service.now() AS over,
       (SELECT s.reason FROM service.suppressed_address AS s WHERE s.address = lower(d.address) LIMIT 1) AS suppressed
FROM service.delivery_with_state AS d WHERE d.id = $1
