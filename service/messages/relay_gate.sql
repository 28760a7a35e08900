-- name: current
-- The breaker's gate of this relay ($1), if it is shut.
SELECT details ->> 'reason' AS reason, (details ->> 'unreachable')::boolean AS unreachable, details ->> 'words' AS words
FROM service.shut_gate WHERE scope = 'relay' AND name = $1 AND cause IN ('breaker', 'base_rate') ORDER BY since LIMIT 1

-- name: shut
-- The relay refuses us. $6: the cause. $4: the pauses before each probe. $5: a probe showed it; else a gate that is shut already stays as it is.
-- Whoever finds it shut soon after it was opened goes on with the pause that it had.
INSERT INTO service.gate AS g (scope, name, cause, by, details, probes, probe_at)
SELECT 'relay', $1, $6, $2, $3, before.probes,
       service.now() + ($4::interval[])[least(before.probes + 1, cardinality($4::interval[]))]
FROM (SELECT coalesce(max(probes) + 1, 0) AS probes FROM service.gate
      WHERE scope = 'relay' AND name = $1 AND cause IN ('breaker', 'base_rate') AND opened_at > service.now() - interval '1 minute') AS before
ON CONFLICT (scope, name, cause) WHERE opened_at IS NULL DO UPDATE SET
    details = excluded.details, probes = g.probes + 1,
    probe_at = service.now() + ($4::interval[])[least(g.probes + 2, cardinality($4::interval[]))]
WHERE $5

-- name: take_probe
-- Whoever gets a row may send one mail; the next probe comes after $2, unless its result is known earlier. $3: now, in any case.
UPDATE service.gate SET probe_at = service.now() + $2
WHERE scope = 'relay' AND name = $1 AND cause IN ('breaker', 'base_rate') AND opened_at IS NULL AND ($3 OR probe_at <= service.now())
RETURNING id

-- name: put_back
-- There was no mail to probe with: the next probe may be tried after $2.
UPDATE service.gate SET probe_at = service.now() + $2
WHERE scope = 'relay' AND name = $1 AND cause IN ('breaker', 'base_rate') AND opened_at IS NULL

-- name: open
-- The relay takes mail again, as a probe showed.
UPDATE service.gate SET opened_at = service.now(), opened_by = $2, details = details || '{"probed": true}'
WHERE scope = 'relay' AND name = $1 AND cause IN ('breaker', 'base_rate') AND opened_at IS NULL
RETURNING id

-- name: opened_by_probe
-- Whether a probe opened the last gate of this relay, and no person.
SELECT details ? 'probed' FROM service.gate WHERE scope = 'relay' AND name = $1 AND opened_at IS NOT NULL ORDER BY id DESC LIMIT 1

-- name: release_waiting
-- Mails that wait because their connection broke, or because the relay asked us to send more slowly, are due now, $1 at a time.
UPDATE service.delivery_state SET not_before = service.now() WHERE id = ANY (ARRAY(
    SELECT id FROM service.delivery_state AS s
    WHERE claim IS NULL AND not_before > (SELECT service.now())
      AND (reason LIKE '%\_lost' OR reason = 'throttled' AND NOT EXISTS (
               SELECT FROM service.domain_pause AS p WHERE p.domain = s.domain AND p.until > service.now()))
    ORDER BY not_before LIMIT $1 FOR UPDATE SKIP LOCKED))
