-- name: search
-- Messages, newest first, without addresses and facts. NULL means any: $1 user, $2 job, $3 state, $4 before id, $6 reason,
-- $7 channel, $8 and $9 first and last local date, $10 and $11 where addresses (lower case) begin and end; $5 limit.
-- Local dates go nearly with ids: the lowest and the highest id of the days asked for spare reading all before and after.
SELECT id, dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, state, reason, detail, attempt, resends,
       message_id, planned_at, not_before, expires_at, dot_at, settled_at, smtp_code, smtp_reply
FROM service.delivery_with_state
WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR job = $2)
  AND ($3::text IS NULL OR state = $3)
  AND ($3::text IS NULL OR $3 IN ('planned', 'claimed', 'sending', 'sent') OR problem = $3) AND ($4::bigint IS NULL OR id < $4)
  AND ($6::text IS NULL OR reason = $6) AND ($7::text IS NULL OR channel = $7)
  AND ($8::date IS NULL OR local_date >= $8) AND ($9::date IS NULL OR local_date <= $9)
  AND ($8::date IS NULL AND $9::date IS NULL OR id BETWEEN
       (SELECT min(lowest.id) FROM service.delivery_days($8, $9) AS day CROSS JOIN LATERAL (
            SELECT id FROM service.delivery WHERE local_date = day ORDER BY id LIMIT 1) AS lowest)
       AND (SELECT max(highest.id) FROM service.delivery_days($8, $9) AS day CROSS JOIN LATERAL (
            SELECT id FROM service.delivery WHERE local_date = day ORDER BY id DESC LIMIT 1) AS highest))
  AND ($10::text IS NULL OR (lower(address) COLLATE "C" >= $10 AND lower(address) COLLATE "C" < $11))
ORDER BY id DESC LIMIT $5

-- name: adopt
-- A mail that an earlier release planned. $1 id.
SELECT service.adopt_deliveries(ARRAY[$1::bigint])

-- name: lock
-- Nobody changes how a mail stands until the act is over. $1 id.
SELECT FROM service.delivery_state WHERE id = $1 FOR UPDATE

-- name: state
-- How a message stands. $1 id.
SELECT d.channel, d.state, d.expires_at, d.expires_at <= service.now() AS over,
       (SELECT s.reason FROM service.suppression AS s WHERE s.address = lower(d.address)) AS suppressed
FROM service.delivery_with_state AS d WHERE d.id = $1
