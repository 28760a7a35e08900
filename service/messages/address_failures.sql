-- name: note_hard_bounce
-- Count a hard bounce of an address; three in thirty days suppress it, "there is no such address" ($2) does at once. $1: the
-- delivery; $3: the fingerprint of the reply.
WITH refused AS (
    SELECT lower(address) AS address FROM service.delivery WHERE id = $1
), bounces AS (
    INSERT INTO service.hard_bounce (address, delivery_id, fingerprint) SELECT address, $1, $3::text FROM refused ON CONFLICT DO NOTHING
)
INSERT INTO service.suppression (address, reason, fingerprint, detail)
SELECT address, 'hard_bounce', $3, CASE WHEN $2::boolean THEN 'the server says that there is no such address'
                                        ELSE 'three hard bounces within 30 days' END
FROM refused
WHERE $2 OR (SELECT count(*) FROM service.hard_bounce AS b
             WHERE b.address = refused.address AND b.bounced_at > service.now() - interval '30 days' AND b.delivery_id <> $1) >= 2
ON CONFLICT (address) DO NOTHING

-- name: lock_address
-- What is noted about one mailbox waits for each other until the end of the transaction. $1 id of a delivery.
SELECT pg_advisory_xact_lock(hashtext('mailbox:' || lower(address))) FROM service.delivery WHERE id = $1

-- name: note_mailbox_failure
-- The mailbox was full or switched off: with the third mail within 14 days the address rests for 7, then 30, then 90 days; a rest
-- that ended more than 90 days ago is forgotten. $1 id; $2: the fingerprint of the reply.
WITH bounced AS (
    INSERT INTO service.mailbox_bounce (address, delivery_id, fingerprint) SELECT lower(address), id, $2 FROM service.delivery WHERE id = $1
    ON CONFLICT DO NOTHING RETURNING address  -- this statement does not see its own row: two others are enough
), enough AS (
    SELECT address FROM bounced LEFT JOIN service.mailbox_rest AS r USING (address)
    WHERE (SELECT count(*) FROM service.mailbox_bounce AS b
           WHERE b.address = bounced.address AND b.bounced_at > service.now() - interval '14 days'
             AND b.bounced_at > coalesce(r.until, '-infinity')) >= 2
), cleared AS (
    DELETE FROM service.mailbox_bounce AS b USING bounced
    WHERE b.address = bounced.address AND b.bounced_at <= service.now() - interval '14 days'
)
INSERT INTO service.mailbox_rest AS r (address, rests, until, fingerprint)
SELECT address, 1, service.now() + interval '7 days', $2 FROM enough
ON CONFLICT (address) DO UPDATE SET
    rests = CASE WHEN r.until < service.now() - interval '90 days' THEN 1 ELSE r.rests + 1 END,
    until = service.now() + CASE WHEN r.until < service.now() - interval '90 days' THEN interval '7 days'
                                 WHEN r.rests = 1 THEN interval '30 days' ELSE interval '90 days' END,
    since = service.now(), fingerprint = excluded.fingerprint

-- name: forget_mailbox_failure
-- The mailbox took the mail after all. $1 id.
DELETE FROM service.mailbox_bounce WHERE delivery_id = $1 AND address = (SELECT lower(address) FROM service.delivery WHERE id = $1)

-- name: take_back
-- Replies with this fingerprint ($1) were about us: nothing of them counts against an address, and mails that failed ($2: these,
-- too) are planned again while they are useful. $3: only what was said within this time; NULL: whenever.
WITH bounces AS (
    DELETE FROM service.hard_bounce WHERE fingerprint = $1 AND ($3::interval IS NULL OR bounced_at > service.now() - $3) RETURNING delivery_id
), full_mailboxes AS (
    DELETE FROM service.mailbox_bounce WHERE fingerprint = $1 AND ($3 IS NULL OR bounced_at > service.now() - $3) RETURNING delivery_id
), taken AS MATERIALIZED (
    SELECT delivery_id AS id FROM bounces UNION SELECT delivery_id FROM full_mailboxes UNION SELECT unnest($2::bigint[])
), lifted AS (
    DELETE FROM service.suppression
    WHERE fingerprint = $1 AND reason = 'hard_bounce' AND ($3 IS NULL OR created_at > service.now() - $3) RETURNING address
), rested AS (
    DELETE FROM service.mailbox_rest WHERE fingerprint = $1 AND ($3 IS NULL OR since > service.now() - $3) RETURNING address
), bounced AS (
    UPDATE service.delivery_state SET reason = 'about_us'
    WHERE id IN (SELECT id FROM taken) AND state = 'bounced' AND reason IN ('hard_bounce', 'about_mailbox')
), planned AS (
    UPDATE service.delivery_state SET state = 'planned', claim = NULL, reason = 'our_fault', settled_at = NULL,
                                      attempt = greatest(attempt - 1, 0), not_before = service.now()
    WHERE id IN (SELECT id FROM taken) AND expires_at > (SELECT service.now())
      AND (state = 'failed' AND reason = 'hard_bounce' OR claim IS NULL AND reason = 'about_mailbox')
)
SELECT (SELECT count(*) FROM lifted) + (SELECT count(*) FROM rested) AS lifted, ARRAY(SELECT id FROM taken) AS deliveries

-- name: share
-- Of the last 100 recipients within a day, up to the last mail that failed with this fingerprint ($1): how many there are, and of
-- how many that was said. Mails are known by the claims that they left with; the others may still come back.
WITH failed AS MATERIALIZED (
    SELECT delivery_id AS id FROM service.hard_bounce WHERE fingerprint = $1 AND bounced_at > service.now() - interval '24 hours'
    UNION
    SELECT delivery_id FROM service.mailbox_bounce WHERE fingerprint = $1 AND bounced_at > service.now() - interval '24 hours'
), last AS MATERIALIZED (
    SELECT max(s.claim) AS claim, max(coalesce(s.dot_at, s.settled_at)) AS at
    FROM service.delivery_state AS s WHERE s.id = ANY (ARRAY(SELECT id FROM failed))
), claims AS (
    SELECT id, deliveries FROM service.past_claim UNION ALL SELECT id, deliveries FROM service.delivery_claim
), near AS MATERIALIZED (
    SELECT deliveries FROM (
        SELECT deliveries, sum(cardinality(deliveries)) OVER (ORDER BY id DESC) AS with_later
        FROM (SELECT * FROM claims WHERE id <= (SELECT claim FROM last) ORDER BY id DESC LIMIT 200) AS c) AS counted
    WHERE with_later - cardinality(deliveries) < 400
), mails AS (
    SELECT DISTINCT ON (lower(d.address)) coalesce(s.dot_at, s.settled_at) AS at, s.id IN (SELECT id FROM failed) AS same
    FROM near CROSS JOIN unnest(near.deliveries) AS one(id) JOIN service.delivery_state AS s ON s.id = one.id
    JOIN service.delivery AS d ON d.id = s.id
    WHERE s.state IN ('sent', 'bounced', 'complained', 'failed') AND coalesce(s.dot_at, s.settled_at) <= (SELECT at FROM last)
      AND coalesce(s.dot_at, s.settled_at) > service.now() - interval '24 hours'
    ORDER BY lower(d.address), at DESC
), recent AS (
    SELECT same FROM mails ORDER BY at DESC LIMIT 100
)
SELECT count(*) AS recipients, count(*) FILTER (WHERE same) AS same FROM recent

-- name: forget_claims
-- Claims that ended more than a day ago say nothing about a report any more.
DELETE FROM service.past_claim WHERE ended_at < service.now() - interval '24 hours'
