-- name: waiting
-- Mails that wait for another try, or are due while their domain asked us to wait; not those that wait for their own time, nor
-- for the end of quiet hours. NULL means any: $1 id, $2 domain, $4 user, $5 job, $6 reason, $7 and $8 first and last local date,
-- $9 and $10 where addresses (lower case) begin and end, $11 run. The oldest $3, and how many there are.
SELECT s.id, s.domain, count(*) OVER () AS matched
FROM service.delivery_state AS s JOIN service.delivery AS d USING (id)
WHERE s.claim IS NULL AND s.expires_at > (SELECT service.now())
  AND CASE WHEN s.not_before > (SELECT service.now()) THEN s.reason <> 'quiet_hours'
           ELSE s.domain IN (SELECT p.domain FROM service.domain_pause AS p WHERE p.until > (SELECT service.now())) END
  AND ($1::bigint IS NULL OR s.id = $1) AND ($2::text IS NULL OR s.domain = $2)
  AND ($4::text IS NULL OR d.user_id = $4) AND ($5::text IS NULL OR s.job = $5) AND ($6::text IS NULL OR s.reason = $6)
  AND ($7::date IS NULL OR d.local_date >= $7) AND ($8::date IS NULL OR d.local_date <= $8)
  AND ($9::text IS NULL OR (lower(d.address) COLLATE "C" >= $9 AND lower(d.address) COLLATE "C" < $10))
  AND ($11::bigint IS NULL OR d.run_id = $11)
ORDER BY s.not_before, s.id LIMIT $3

-- name: make_due
-- These mails are due, unless somebody has one of them in hand.
UPDATE service.delivery_state SET not_before = least(not_before, service.now()) WHERE id = ANY (ARRAY(
    SELECT id FROM service.delivery_state WHERE id = ANY ($1::bigint[]) AND claim IS NULL ORDER BY id FOR UPDATE SKIP LOCKED))
RETURNING id

-- name: end_pauses_early
-- The pauses of these domains end: each gets one mail, and if it does not take that, a longer pause than before.
UPDATE service.domain_pause SET until = service.now() WHERE domain = ANY (ARRAY(
    SELECT domain FROM service.domain_pause WHERE domain = ANY ($1::text[]) AND until > (SELECT service.now())
    ORDER BY domain FOR UPDATE))
RETURNING domain
