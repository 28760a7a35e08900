-- name: adopt
-- Mails that releases before 0.2 planned and did not end, a thousand at a time, once none of their processes is alive.
SELECT service.adopt_deliveries(ARRAY(
    SELECT id FROM service.delivery
    WHERE (state = 'planned' OR state IN ('claimed', 'sending') AND lease_until < (SELECT service.now())
           OR state = 'unconfirmed' AND unconfirmed_policy = 'resend' AND resends = 0) AND channel = 'email'
      AND NOT EXISTS (SELECT FROM service.replica WHERE coalesce(schema, 0) < 33 AND seen_at > service.now() - $1::interval)
    ORDER BY not_before LIMIT 1000))

-- name: adopt_these
-- The same for single ones, on which somebody acts.
SELECT service.adopt_deliveries($1)

-- name: expire
-- Mails that were not sent while they were useful, $2 at a time; those failed whose mailbox refused them for good. $1: the
-- latest plausible time.
UPDATE service.delivery_state AS s SET
    state = CASE WHEN s.reason = 'about_mailbox' AND s.smtp_code >= 500 THEN 'failed' ELSE 'expired' END,
    reason = CASE WHEN s.reason = 'about_mailbox' AND s.smtp_code >= 500 THEN s.reason ELSE 'stale' END,
    claim = 0, settled_at = service.now(),
    detail = coalesce((SELECT format('%s asked us to wait: %s', p.domain, p.reply)
                       FROM service.domain_pause AS p WHERE p.domain = s.domain), s.detail)
WHERE id = ANY (ARRAY(
    SELECT id FROM service.delivery_state
    WHERE claim IS NULL AND expires_at <= (SELECT service.now()) AND (SELECT service.clock_trusted($1))
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED))

-- name: recover
-- Claims whose lease is over: their owner died, or lost the database. What had no final dot was not delivered, and waits
-- again; of the rest nobody knows. $1: the latest plausible time.
WITH over AS (
    DELETE FROM service.delivery_claim WHERE id = ANY (ARRAY(
        SELECT id FROM service.delivery_claim WHERE until < service.now() AND (SELECT service.clock_trusted($1))
        ORDER BY id FOR UPDATE SKIP LOCKED))
    RETURNING id, deliveries
)
UPDATE service.delivery_state AS s SET
    state = CASE s.state WHEN 'claimed' THEN 'planned' ELSE 'unconfirmed' END,
    claim = CASE s.state WHEN 'claimed' THEN NULL ELSE s.claim END,
    reason = CASE s.state WHEN 'claimed' THEN s.reason ELSE 'the sender died after the final dot was due' END,
    not_before = CASE s.state WHEN 'claimed' THEN s.not_before ELSE service.now() + interval '15 minutes' END
FROM over, unnest(over.deliveries) AS mine(id)
WHERE s.id = mine.id AND s.claim = over.id AND s.state IN ('claimed', 'sending')

-- name: resend_unconfirmed
-- Unconfirmed mails whose kind may be sent a second time are sent again: once, after 15 minutes, while they are useful. $1: as
-- above.
UPDATE service.delivery_state AS s SET state = 'planned', claim = NULL, resends = s.resends + 1
FROM service.delivery AS d
WHERE s.problem = 'unconfirmed' AND s.resends = 0 AND s.not_before <= (SELECT service.now())
  AND s.expires_at > (SELECT service.now())
  AND d.id = s.id AND d.unconfirmed_policy = 'resend' AND (SELECT service.clock_trusted($1))

-- name: needs_analyze
-- Whether the table of states has changed so much that plans made for it may read all of it. Autovacuum looks once a minute, which
-- is late on the day on which the first mails are planned.
SELECT t.n_mod_since_analyze > 1000 + c.reltuples FROM pg_stat_user_tables AS t JOIN pg_class AS c ON c.oid = t.relid
WHERE t.relid = 'service.delivery_state'::regclass

-- name: analyze
-- Renew its statistics, unless somebody does; all plans are made anew.
ANALYZE (SKIP_LOCKED) service.delivery_state

-- name: claim
-- Mails for this owner, oldest first, with the recipients' choices. Zero rows: nothing is due, or others were faster.
-- For each domain in $4 at most $5 mails, for every other at most $6; none for a paused domain, and one for a domain
-- that was paused and has accepted nothing since. Only of the jobs in $8 (NULL: of all), nothing behind a gate that is shut,
-- and nothing after $9, the latest plausible time. If the front of the queue holds too few that may be sent, the oldest of
-- each domain, job and kind are looked up. What was written since we looked is passed over: its recipient may have decided
-- something. Rows of large tables are read one by one, or by index in its order, whatever statistics say of them.
-- $10: claims of ours of which nothing is left to do. $11: our relay; $12: also if it refuses us.
WITH RECURSIVE allowed AS MATERIALIZED (
    SELECT (SELECT service.fits($7)) AND (SELECT service.clock_trusted($9)) AND NOT coalesce(bool_or(scope = 'all' OR scope = 'relay' AND name = $11 AND NOT ($12 AND probe_at IS NOT NULL)), false) AS claims,
           coalesce(array_agg(scope || ':' || name), '{}') AS shut
    FROM service.shut_gate
), done AS (
    DELETE FROM service.delivery_claim WHERE id = ANY ($10::bigint[])
), capacity AS MATERIALIZED (
    SELECT domain, least(coalesce(r.max_messages, $6), CASE WHEN p.until > service.now() THEN 0 WHEN p.failures > 0 THEN 1 END) AS max_messages
    FROM unnest($4::text[], $5::int[]) AS r(domain, max_messages) FULL JOIN service.domain_pause AS p USING (domain)
), front AS MATERIALIZED (
    SELECT * FROM service.oldest_due((SELECT CASE WHEN claims THEN 3 * $3 ELSE 0 END FROM allowed))
), near AS MATERIALIZED (
    SELECT id, version, domain, not_before
    FROM (SELECT *, row_number() OVER (PARTITION BY domain ORDER BY not_before, id) AS nth FROM front
          WHERE expires_at > (SELECT service.now()) AND ($8::text[] IS NULL OR job = ANY ($8))
            AND NOT ARRAY['job:' || job, 'kind:' || kind, 'domain:' || domain] && (SELECT shut FROM allowed)) AS f
    LEFT JOIN capacity AS r USING (domain) WHERE nth <= coalesce(r.max_messages, $6)
), groups AS (
    (SELECT domain, job, kind FROM service.delivery_state
     WHERE claim IS NULL AND (SELECT count(*) FROM near) < $3 AND (SELECT count(*) FROM front) = 3 * $3
     ORDER BY domain, job, kind LIMIT 1)
    UNION ALL
    SELECT following.* FROM groups AS g CROSS JOIN LATERAL (
        SELECT s.domain, s.job, s.kind FROM service.delivery_state AS s
        WHERE s.claim IS NULL AND (s.domain, s.job, s.kind) > (g.domain, g.job, g.kind)
        ORDER BY s.domain, s.job, s.kind LIMIT 1) AS following
), far AS MATERIALIZED (
    SELECT own.*
    FROM groups AS g LEFT JOIN capacity AS r USING (domain) CROSS JOIN LATERAL (
        SELECT s.id, s.xmin AS version, s.domain, s.not_before FROM service.delivery_state AS s
        WHERE s.claim IS NULL AND s.expires_at > (SELECT service.now())
          AND (s.domain, s.job, s.kind, s.not_before) >= (g.domain, g.job, g.kind, '-infinity')
          AND (s.domain, s.job, s.kind, s.not_before) <= (g.domain, g.job, g.kind, (SELECT service.now()))
        ORDER BY s.domain, s.job, s.kind, s.not_before, s.id LIMIT coalesce(r.max_messages, $6)) AS own
    WHERE ($8 IS NULL OR g.job = ANY ($8))
      AND NOT ARRAY['job:' || g.job, 'kind:' || g.kind, 'domain:' || g.domain] && (SELECT shut FROM allowed) LIMIT 3 * $3
), may AS (
    SELECT id, version
    FROM (SELECT *, row_number() OVER (PARTITION BY domain ORDER BY not_before, id) AS nth
          FROM (SELECT * FROM near UNION SELECT * FROM far) AS f) AS f
    LEFT JOIN capacity AS r USING (domain) WHERE nth <= coalesce(r.max_messages, $6) ORDER BY not_before, id
), chosen AS MATERIALIZED (
    SELECT s.id FROM may CROSS JOIN LATERAL (
        SELECT id FROM service.delivery_state WHERE id = may.id AND xmin = may.version FOR UPDATE SKIP LOCKED) AS s
    LIMIT $3
), own AS MATERIALIZED (
    INSERT INTO service.delivery_claim (owner, until, deliveries)
    SELECT $1, service.now() + $2, array_agg(id) FROM chosen HAVING count(*) > 0 RETURNING id
), claimed AS (
    UPDATE service.delivery_state SET state = 'claimed', claim = (SELECT id FROM own), attempt = attempt + 1
    WHERE id = ANY (ARRAY(SELECT id FROM chosen))
    RETURNING id, claim, attempt, dot_at, expires_at, not_before, domain
)
SELECT c.id, c.claim, c.attempt, c.dot_at, c.expires_at, c.domain, d.dedupe_key, d.job, d.run_id, d.kind, d.user_id, d.zone, d.template,
       d.locale, d.address, d.recipient_name, d.facts, d.message_id, d.message_date, d.token, d.traceparent,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = d.user_id) AS overrides,
       EXISTS (SELECT 1 FROM service.suppression AS s WHERE s.address = lower(d.address))
       OR EXISTS (SELECT FROM service.suppressed_key) AND EXISTS (
           SELECT FROM service.suppressed_key AS k WHERE k.address_key = service.keyed_hash(lower(d.address)))
       OR EXISTS (SELECT FROM service.mailbox_rest AS m WHERE m.address = lower(d.address) AND m.until > service.now()) AS suppressed,
       EXISTS (SELECT 1 FROM service.domain_pause AS p WHERE p.domain = c.domain) AS probe,
       (SELECT z.used FROM service.zone AS z WHERE z.name = r.timezone) AS own_zone,
       r.paused_until, service.now() AS claimed_at, NULL AS past,
       CASE WHEN r.quiet_start IS NOT NULL THEN jsonb_build_array(r.quiet_start, r.quiet_end) END AS quiet
FROM claimed AS c CROSS JOIN LATERAL (SELECT * FROM service.delivery WHERE id = c.id LIMIT 1) AS d
LEFT JOIN service.recipient_setting AS r ON r.user_id = d.user_id
ORDER BY c.not_before, c.id

-- name: record
-- The durable marks "about to write the final dot" ($1 ids, $2 claims; $3 the latest plausible time), and the results of mails
-- ($4 to $13), in one statement. Marks that are not returned are not ours, or stopped by a gate: no dot may be written. A mail
-- that became unconfirmed meanwhile becomes what it was. $12: the final dot was certainly not written: the mark is reset to $13,
-- that of an earlier attempt; one whose content was refused is planned again if every content is. An accepted mail ends the
-- pauses of its domain; locked rows are skipped, so that there is no deadlock. $14: our relay; $15: also if it refuses us.
WITH marked AS (
    UPDATE service.delivery_state AS s SET state = 'sending', dot_at = service.now()
    FROM unnest($1::bigint[], $2::bigint[]) AS mine(id, claim) JOIN service.delivery_claim AS c ON c.id = mine.claim
    WHERE s.id = mine.id AND s.claim = mine.claim AND s.state = 'claimed' AND c.until > (SELECT service.now())
      AND (SELECT service.clock_trusted($3))
      AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE service.gate_covers(g.scope, g.name, s.job, s.kind, s.domain)
                      OR g.scope = 'relay' AND g.name = $14 AND NOT ($15 AND g.probe_at IS NOT NULL))
    RETURNING s.id
), settled AS (
    UPDATE service.delivery_state AS s SET
        state = r.state, reason = r.reason, smtp_code = r.code, smtp_reply = r.reply,
        claim = CASE WHEN r.state = 'planned' THEN NULL ELSE s.claim END,
        attempt = greatest(s.attempt - r.refund, 0),
        dot_at = CASE WHEN r.unwritten THEN r.dot_at ELSE s.dot_at END,
        not_before = CASE WHEN r.delay IS NULL THEN s.not_before ELSE service.now() + r.delay END,
        settled_at = CASE WHEN r.state <> 'planned' THEN service.now() END
    FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::int[], $9::text[], $10::interval[], $11::int[],
                $12::boolean[], $13::timestamptz[])
         AS r(id, claim, state, reason, code, reply, delay, refund, unwritten, dot_at)
    WHERE s.id = r.id AND s.claim = r.claim
      AND (s.state IN ('claimed', 'sending') OR (s.state = 'unconfirmed' AND r.state <> 'unconfirmed')
           OR (s.state = 'failed' AND s.reason = 'content_refused' AND r.state = 'planned'))
    RETURNING s.id, s.domain, s.state
), reopened AS (
    DELETE FROM service.domain_pause WHERE domain = ANY (ARRAY(
        SELECT p.domain FROM service.domain_pause AS p
        WHERE p.until <= service.now() AND p.domain IN (SELECT s.domain FROM settled AS s WHERE s.state = 'sent')
        FOR UPDATE OF p SKIP LOCKED))
    RETURNING domain
)
SELECT ARRAY(SELECT id FROM marked) AS marked, ARRAY(SELECT id FROM settled) AS settled, ARRAY(SELECT domain FROM reopened) AS reopened

-- name: release_throttled
-- A domain takes mail again: what waits since it asked us to send more slowly is due now, $2 at a time. Its places and rate
-- spread them.
UPDATE service.delivery_state SET not_before = service.now() WHERE id = ANY (ARRAY(
    SELECT id FROM service.delivery_state
    WHERE claim IS NULL AND domain = $1 AND not_before > (SELECT service.now()) AND reason = 'throttled'
    ORDER BY not_before LIMIT $2 FOR UPDATE SKIP LOCKED))

-- name: renew
-- Our claims go on; those that are over are not returned.
UPDATE service.delivery_claim SET until = service.now() + $2 WHERE id = ANY ($1::bigint[]) AND until > service.now() RETURNING id

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

-- name: end_pauses
-- It was the relay that asked us to wait, not these domains.
DELETE FROM service.domain_pause WHERE domain = ANY ($1::text[])

-- name: paused_domains
-- The domains that are paused now, and until when.
SELECT domain, until FROM service.domain_pause WHERE until > service.now() ORDER BY domain

-- name: ended_pauses
-- Those pauses ($1 domains, $2 until when, as a process knows them) that are over, and whether before their time.
SELECT k.domain, k.until > service.now() AS early FROM unnest($1::text[], $2::timestamptz[]) AS k(domain, until)
WHERE NOT EXISTS (SELECT FROM service.domain_pause AS p WHERE p.domain = k.domain AND p.until > service.now())

-- name: forget_pauses
-- Pauses that ended more than a day ago.
DELETE FROM service.domain_pause WHERE until < service.now() - interval '1 day'

-- name: update_changed
-- What revalidation changed in a delivery that was never sent; from now on its bytes stay the same.
WITH ours AS (
    UPDATE service.delivery_state AS s SET domain = lower(split_part(n.address, '@', 2))
    FROM jsonb_to_recordset($1::jsonb) AS n(id bigint, claim bigint, address text)
    WHERE s.id = n.id AND s.claim = n.claim AND s.state = 'claimed' AND s.dot_at IS NULL RETURNING s.id
)
UPDATE service.delivery AS d SET facts = n.facts, address = n.address, recipient_name = n.name
FROM ours JOIN jsonb_to_recordset($1::jsonb) AS n(id bigint, facts jsonb, address text, name text) USING (id)
WHERE d.id = ours.id

-- name: release
-- Release what was claimed and not sent, without counting an attempt. $3: the marks of earlier attempts. What was taken for
-- unconfirmed meanwhile is free as well: its dot was not written.
UPDATE service.delivery_state AS s SET state = 'planned', claim = NULL, attempt = greatest(s.attempt - 1, 0),
                                       not_before = greatest(s.not_before, service.now() + $4), dot_at = mine.dot_at
FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) AS mine(id, claim, dot_at)
WHERE s.id = mine.id AND s.claim = mine.claim AND s.state IN ('claimed', 'sending', 'unconfirmed')

-- name: counts
-- Messages by state.
SELECT state, count(*) AS n FROM service.delivery_with_state WHERE channel = 'email' GROUP BY state

-- name: resend
-- An operator's decision: send a mail again that failed, expired, was cancelled or is unconfirmed.
UPDATE service.delivery_state SET state = 'planned', claim = NULL, not_before = service.now(), resends = resends + 1, attempt = 0,
    expires_at = greatest(expires_at, service.now() + interval '24 hours'), reason = NULL, settled_at = NULL
WHERE id = $1 AND state IN ('unconfirmed', 'failed', 'expired', 'cancelled')
RETURNING id

-- name: cancel
-- Cancel a mail that has not been sent.
UPDATE service.delivery_state SET state = 'cancelled', claim = 0, settled_at = service.now()
WHERE id = $1 AND claim IS NULL RETURNING id

-- name: retry
-- Plan a failed mail again while it is useful. $1 id.
UPDATE service.delivery_state SET state = 'planned', claim = NULL, reason = NULL, settled_at = NULL, attempt = 0,
                                  not_before = service.now()
WHERE id = $1 AND state = 'failed' AND expires_at > service.now() RETURNING id

-- name: failed
-- Failed mails. NULL means any: $1 user, $2 job, $3 reason, $4 and $5 first and last local date, $6 and $7 where addresses (lower
-- case) begin and end, $8 run; whether they can be sent now, and why not. The oldest first.
SELECT d.id, CASE WHEN d.expires_at <= service.now() THEN 'expired'
                  WHEN EXISTS (SELECT FROM service.suppressed_address AS s WHERE s.address = lower(d.address)) THEN 'suppressed'
                  ELSE 'retryable' END AS fate
FROM service.delivery_with_state AS d
WHERE d.problem = 'failed' AND d.state = 'failed' AND d.channel = 'email'
  AND ($1::text IS NULL OR d.user_id = $1) AND ($2::text IS NULL OR d.job = $2)
  AND ($3::text IS NULL OR d.reason = $3)
  AND ($4::date IS NULL OR d.local_date >= $4) AND ($5::date IS NULL OR d.local_date <= $5)
  AND ($6::text IS NULL OR (lower(d.address) COLLATE "C" >= $6 AND lower(d.address) COLLATE "C" < $7))
  AND ($8::bigint IS NULL OR d.run_id = $8)
ORDER BY d.id

-- name: retry_these
-- Plan these mails again that failed.
UPDATE service.delivery_state SET state = 'planned', claim = NULL, reason = NULL, settled_at = NULL, attempt = 0,
                                  not_before = service.now()
WHERE id = ANY ($1::bigint[]) AND state = 'failed' RETURNING id
