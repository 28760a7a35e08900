-- name: expire
-- Deliveries that were not sent while they were useful. $1: the latest plausible time.
UPDATE service.delivery AS d SET state = 'expired', settled_at = service.now(), reason = 'stale',
    detail = coalesce((SELECT format('%s asked us to wait: %s', p.domain, p.reply)
                       FROM service.domain_pause AS p WHERE p.domain = d.domain), d.detail)
WHERE state = 'planned' AND expires_at <= (SELECT service.now()) AND (SELECT service.clock_trusted($1))

-- name: recover_claimed
-- The owner died before the final dot, so nothing was delivered: planned again. $1: the latest plausible time.
UPDATE service.delivery SET state = 'planned', owner = NULL, lease_until = NULL
WHERE state = 'claimed' AND lease_until < service.now() AND (SELECT service.clock_trusted($1))

-- name: recover_sending
-- The owner died after it had marked the dot: the server may or may not have accepted the message. $1: as above.
UPDATE service.delivery SET state = 'unconfirmed', owner = NULL, lease_until = NULL,
    reason = 'the sender died after the final dot was due', not_before = service.now() + interval '15 minutes'
WHERE state = 'sending' AND lease_until < service.now() AND (SELECT service.clock_trusted($1))

-- name: claim
-- A batch for this owner, oldest first, with the recipients' choices. Zero rows: nothing is due, or others were faster.
-- For each domain in $4 at most $5 messages, for every other at most $6; none for a paused domain, and one for a domain
-- that was paused and has accepted nothing since. Only of the jobs in $8 (NULL: of all), nothing behind a gate that is shut,
-- and nothing after $9, the latest plausible time. If the front of the queue holds too few that may be sent, the oldest of
-- each domain are looked up.
WITH RECURSIVE allowed AS MATERIALIZED (
    SELECT (SELECT service.fits($7)) AND (SELECT service.clock_trusted($9)) AND NOT coalesce(bool_or(scope = 'all'), false) AS claims,
           coalesce(array_agg(scope || ':' || name), '{}') AS shut
    FROM service.shut_gate
), capacity AS MATERIALIZED (
    SELECT domain, least(coalesce(r.max_messages, $6), CASE WHEN p.until > service.now() THEN 0 WHEN p.failures > 0 THEN 1 END) AS max_messages
    FROM unnest($4::text[], $5::int[]) AS r(domain, max_messages) FULL JOIN service.domain_pause AS p USING (domain)
), front AS MATERIALIZED (
    SELECT id, domain, not_before FROM service.delivery
    WHERE state = 'planned' AND not_before <= (SELECT service.now()) AND expires_at > (SELECT service.now())
      AND (SELECT claims FROM allowed) AND ($8::text[] IS NULL OR job = ANY ($8))
      AND NOT ARRAY['job:' || job, 'kind:' || kind, 'domain:' || domain] && (SELECT shut FROM allowed)
    ORDER BY not_before, id LIMIT 10 * $3
), near AS MATERIALIZED (
    SELECT f.id
    FROM (SELECT *, row_number() OVER (PARTITION BY domain ORDER BY not_before, id) AS nth FROM front) AS f
    LEFT JOIN capacity AS r USING (domain) WHERE f.nth <= coalesce(r.max_messages, $6)
    ORDER BY f.not_before, f.id LIMIT 3 * $3
), domains AS (
    SELECT min(domain) AS domain FROM service.delivery
    WHERE state = 'planned' AND (SELECT count(*) FROM near) < $3 AND (SELECT count(*) FROM front) = 10 * $3
    UNION ALL
    SELECT (SELECT min(d.domain) FROM service.delivery AS d WHERE d.state = 'planned' AND d.domain > domains.domain)
    FROM domains WHERE domains.domain IS NOT NULL
), far AS MATERIALIZED (
    SELECT own.id
    FROM domains LEFT JOIN capacity AS r USING (domain) CROSS JOIN LATERAL (
        SELECT d.id FROM service.delivery AS d
        WHERE d.state = 'planned' AND d.expires_at > (SELECT service.now())
          AND (SELECT claims FROM allowed) AND ($8 IS NULL OR d.job = ANY ($8))
          AND NOT ARRAY['job:' || d.job, 'kind:' || d.kind, 'domain:' || d.domain] && (SELECT shut FROM allowed)
          AND (d.domain, d.not_before) >= (domains.domain, '-infinity')
          AND (d.domain, d.not_before) <= (domains.domain, (SELECT service.now()))
        ORDER BY d.domain, d.not_before, d.id LIMIT coalesce(r.max_messages, $6)) AS own
    WHERE domains.domain IS NOT NULL LIMIT 3 * $3
), claimed AS (
    UPDATE service.delivery SET state = 'claimed', owner = $1, lease_until = service.now() + $2,
                                epoch = epoch + 1, attempt = attempt + 1
    WHERE id = ANY (ARRAY(
        SELECT d.id FROM service.delivery AS d JOIN (SELECT id FROM near UNION SELECT id FROM far) AS may USING (id)
        WHERE d.state = 'planned' ORDER BY d.not_before, d.id LIMIT $3 FOR UPDATE OF d SKIP LOCKED))
    RETURNING *
)
SELECT c.*,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = c.user_id) AS overrides,
       EXISTS (SELECT 1 FROM service.suppression AS s WHERE s.address = lower(c.address))
       OR EXISTS (SELECT FROM service.suppressed_key) AND EXISTS (
           SELECT FROM service.suppressed_key AS k WHERE k.address_key = service.keyed_hash(lower(c.address))) AS suppressed,
       EXISTS (SELECT 1 FROM service.domain_pause AS p WHERE p.domain = c.domain) AS probe,
       (SELECT z.used FROM service.zone AS z WHERE z.name = s.timezone) AS own_zone,
       s.paused_until, service.now() AS claimed_at, NULL AS past,
       CASE WHEN s.quiet_start IS NOT NULL THEN jsonb_build_array(s.quiet_start, s.quiet_end) END AS quiet
FROM claimed AS c LEFT JOIN service.recipient_setting AS s ON s.user_id = c.user_id
ORDER BY c.not_before, c.id

-- name: claim_resend
-- Unconfirmed messages whose kind may be sent a second time: once, after 15 minutes. $4: domains without capacity. $7: the
-- latest plausible time.
WITH claimed AS (
    UPDATE service.delivery SET state = 'claimed', owner = $1, lease_until = service.now() + $2,
                                epoch = epoch + 1, resends = resends + 1
    WHERE id = ANY (ARRAY(
        SELECT id FROM service.delivery AS d
        WHERE state = 'unconfirmed' AND unconfirmed_policy = 'resend' AND resends = 0 AND not_before <= service.now()
          AND domain <> ALL ($4::text[]) AND (SELECT service.fits($5)) AND ($6::text[] IS NULL OR d.job = ANY ($6))
          AND (SELECT service.clock_trusted($7))
          AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope = 'all' OR (g.scope, g.name) IN (('job', d.job), ('kind', d.kind), ('domain', d.domain)))
          AND NOT EXISTS (SELECT 1 FROM service.domain_pause AS p WHERE p.domain = d.domain AND p.until > service.now())
        ORDER BY not_before, id LIMIT $3 FOR UPDATE OF d SKIP LOCKED))
    RETURNING *
)
SELECT c.*,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = c.user_id) AS overrides,
       EXISTS (SELECT 1 FROM service.suppression AS s WHERE s.address = lower(c.address))
       OR EXISTS (SELECT FROM service.suppressed_key) AND EXISTS (
           SELECT FROM service.suppressed_key AS k WHERE k.address_key = service.keyed_hash(lower(c.address))) AS suppressed,
       EXISTS (SELECT 1 FROM service.domain_pause AS p WHERE p.domain = c.domain) AS probe,
       (SELECT z.used FROM service.zone AS z WHERE z.name = s.timezone) AS own_zone,
       s.paused_until, service.now() AS claimed_at, NULL AS past,
       CASE WHEN s.quiet_start IS NOT NULL THEN jsonb_build_array(s.quiet_start, s.quiet_end) END AS quiet
FROM claimed AS c LEFT JOIN service.recipient_setting AS s ON s.user_id = c.user_id
ORDER BY c.not_before, c.id

-- name: mark_dots
-- The durable mark "about to write the final dot". Rows that are not returned are not ours, or stopped by a gate, and must
-- not be sent. $3: the latest plausible time.
UPDATE service.delivery AS d SET state = 'sending', dot_at = service.now()
FROM unnest($1::bigint[], $2::bigint[]) AS mine(id, epoch)
WHERE d.id = mine.id AND d.epoch = mine.epoch AND d.state = 'claimed' AND d.lease_until > service.now()
  AND (SELECT service.clock_trusted($3))
  AND NOT EXISTS (SELECT FROM service.shut_gate AS g
                  WHERE g.scope = 'all' OR (g.scope, g.name) IN (('job', d.job), ('kind', d.kind), ('domain', d.domain)))
RETURNING d.id

-- name: settle
-- The results of our deliveries. A row that became unconfirmed meanwhile may still become sent, or planned again if the
-- final dot was certainly not written ($9; the mark is reset to $10, that of an earlier attempt). An accepted mail ends
-- the pauses of its domain; locked rows are skipped, so that there is no deadlock.
WITH settled AS (
    UPDATE service.delivery AS d SET
        state = s.state, reason = s.reason, smtp_code = s.code, smtp_reply = s.reply, lease_until = NULL,
        attempt = greatest(d.attempt - s.refund, 0),
        dot_at = CASE WHEN s.unwritten THEN s.dot_at ELSE d.dot_at END,
        not_before = CASE WHEN s.delay IS NULL THEN d.not_before ELSE service.now() + s.delay END,
        settled_at = CASE WHEN s.state <> 'planned' THEN service.now() END
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::text[], $7::interval[], $8::int[],
                $9::boolean[], $10::timestamptz[])
         AS s(id, epoch, state, reason, code, reply, delay, refund, unwritten, dot_at)
    WHERE d.id = s.id AND d.epoch = s.epoch
      AND (d.state IN ('claimed', 'sending') OR (d.state = 'unconfirmed' AND (s.state = 'sent' OR s.unwritten)))
    RETURNING d.id, d.domain, d.state
), reopened AS (
    DELETE FROM service.domain_pause WHERE domain = ANY (ARRAY(
        SELECT p.domain FROM service.domain_pause AS p
        WHERE p.until <= service.now() AND p.domain IN (SELECT s.domain FROM settled AS s WHERE s.state = 'sent')
        FOR UPDATE OF p SKIP LOCKED))
)
SELECT id FROM settled

-- name: pause_domain
-- A domain asked us to wait: the next of the growing pauses in $2, unless it is paused already. $3: its reply.
INSERT INTO service.domain_pause AS p (domain, failures, until, reply)
VALUES ($1, 1, service.now() + ($2::interval[])[1], $3)
ON CONFLICT (domain) DO UPDATE SET
    failures = p.failures + CASE WHEN p.until > service.now() THEN 0 ELSE 1 END,
    until = CASE WHEN p.until > service.now() THEN p.until
                 ELSE service.now() + ($2::interval[])[least(p.failures + 1, cardinality($2::interval[]))] END,
    reply = excluded.reply
RETURNING until

-- name: paused_domains
-- The domains that are paused now, and until when.
SELECT domain, until FROM service.domain_pause WHERE until > service.now() ORDER BY domain

-- name: forget_pauses
-- Pauses that ended more than a day ago.
DELETE FROM service.domain_pause WHERE until < service.now() - interval '1 day'

-- name: update_changed
-- What revalidation changed in a delivery that was never sent; from now on its bytes stay the same.
UPDATE service.delivery AS d SET facts = n.facts, address = n.address, recipient_name = n.name
FROM jsonb_to_recordset($1::jsonb) AS n(id bigint, epoch bigint, facts jsonb, address text, name text)
WHERE d.id = n.id AND d.epoch = n.epoch AND d.state = 'claimed' AND d.dot_at IS NULL

-- name: record_hard_bounces
-- Count hard bounces of addresses; three in thirty days suppress an address, "there is no such address" does at once.
WITH refused AS (
    SELECT lower(d.address) AS address, d.id, n.at_once
    FROM unnest($1::bigint[], $2::boolean[]) AS n(id, at_once) JOIN service.delivery AS d ON d.id = n.id
), bounces AS (
    INSERT INTO service.hard_bounce (address, delivery_id) SELECT address, id FROM refused ON CONFLICT DO NOTHING
)
INSERT INTO service.suppression (address, reason, detail)
SELECT address, 'hard_bounce', CASE WHEN bool_or(at_once) THEN 'the server says that there is no such address'
                                    ELSE 'three hard bounces within 30 days' END
FROM refused GROUP BY address
HAVING bool_or(at_once) OR count(DISTINCT id) + (
    SELECT count(*) FROM service.hard_bounce AS b
    WHERE b.address = refused.address AND b.bounced_at > service.now() - interval '30 days'
      AND b.delivery_id <> ALL (array_agg(refused.id))) >= 3
ON CONFLICT (address) DO NOTHING

-- name: release
-- Release what was claimed and not sent, without counting an attempt. $3: the marks of earlier attempts. What was taken for
-- unconfirmed meanwhile is free as well: its dot was not written.
UPDATE service.delivery AS d SET state = 'planned', attempt = greatest(attempt - 1, 0), owner = NULL, lease_until = NULL,
                                 not_before = greatest(d.not_before, service.now() + $4), dot_at = mine.dot_at
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS mine(id, epoch, dot_at)
WHERE d.id = mine.id AND d.epoch = mine.epoch AND d.state IN ('claimed', 'sending', 'unconfirmed')

-- name: counts
-- Messages by state.
SELECT state, count(*) AS n FROM service.delivery WHERE channel = 'email' GROUP BY state

-- name: resend
-- An operator's decision: send a mail again that failed, expired, was cancelled or is unconfirmed.
UPDATE service.delivery SET state = 'planned', not_before = service.now(), resends = resends + 1, attempt = 0,
    expires_at = greatest(expires_at, service.now() + interval '24 hours'), reason = NULL
WHERE id = $1 AND channel = 'email' AND state IN ('unconfirmed', 'failed', 'expired', 'cancelled')
RETURNING id

-- name: cancel
-- Cancel a message that has not been sent, and withdraw its notification.
WITH cancelled AS (
    UPDATE service.delivery SET state = 'cancelled', settled_at = service.now()
    WHERE id = $1 AND state = 'planned' RETURNING id
), withdrawn AS (
    UPDATE service.notification SET withdrawn_at = service.now(), write_at = NULL
    WHERE delivery_id IN (SELECT id FROM cancelled)
)
SELECT id FROM cancelled

-- name: retry
-- Plan a failed mail again while it is useful. $1 id.
UPDATE service.delivery SET state = 'planned', reason = NULL, settled_at = NULL, attempt = 0, owner = NULL,
                            not_before = service.now()
WHERE id = $1 AND channel = 'email' AND state = 'failed' AND expires_at > service.now() RETURNING id

-- name: retry_failed
-- The same for all that fit. NULL means any: $1 user, $2 job, $3 reason, $4 and $5 first and last local date, $6 and $7 where
-- addresses (lower case) begin and end, $8 run; $9 at most, oldest first; $10: only count. What cannot be sent is counted by why.
WITH matching AS MATERIALIZED (
    SELECT d.id, CASE WHEN d.expires_at <= service.now() THEN 'expired'
                      WHEN EXISTS (SELECT FROM service.suppression AS s WHERE s.address = lower(d.address)) THEN 'suppressed'
                      ELSE 'retryable' END AS fate
    FROM service.delivery AS d
    WHERE d.state = 'failed' AND d.channel = 'email'
      AND ($1::text IS NULL OR d.user_id = $1) AND ($2::text IS NULL OR d.job = $2)
      AND ($3::text IS NULL OR d.reason = $3)
      AND ($4::date IS NULL OR d.local_date >= $4) AND ($5::date IS NULL OR d.local_date <= $5)
      AND ($6::text IS NULL OR (lower(d.address) COLLATE "C" >= $6 AND lower(d.address) COLLATE "C" < $7))
      AND ($8::bigint IS NULL OR d.run_id = $8)
), retried AS (
    UPDATE service.delivery SET state = 'planned', reason = NULL, settled_at = NULL, attempt = 0, owner = NULL,
                                not_before = service.now()
    WHERE NOT $10::boolean AND state = 'failed'
      AND id = ANY (ARRAY(SELECT id FROM matching WHERE fate = 'retryable' ORDER BY id LIMIT $9))
    RETURNING id
)
SELECT (SELECT count(*) FROM matching) AS matched, (SELECT count(*) FROM retried) AS retried,
       (SELECT count(*) FROM matching WHERE fate = 'retryable') AS retryable,
       (SELECT count(*) FROM matching WHERE fate = 'expired') AS expired,
       (SELECT count(*) FROM matching WHERE fate = 'suppressed') AS suppressed
