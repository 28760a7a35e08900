-- name: current
-- The gate of this relay ($1) that is probed (probe_at), if it is shut.
SELECT details ->> 'reason' AS reason, (details ->> 'unreachable')::boolean AS unreachable, details ->> 'words' AS words,
       (details ->> 'reported')::boolean AS reported
FROM service.shut_gate WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL ORDER BY since LIMIT 1

-- name: shut
-- The relay refuses us. $6: the cause. $4: the pauses before each probe. $5: a probe showed it; else a gate that is shut already stays as it is.
-- Whoever finds it shut soon after it was opened goes on with the pause that it had.
INSERT INTO service.gate AS g (scope, name, cause, by, details, probes, probe_at)
SELECT 'relay', $1, $6, $2, $3, before.probes,
       service.now() + ($4::interval[])[least(before.probes + 1, cardinality($4::interval[]))]
FROM (SELECT coalesce(max(probes) + 1, 0) AS probes FROM service.gate
      WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL AND opened_at > service.now() - interval '1 minute') AS before
ON CONFLICT (scope, name, cause) WHERE opened_at IS NULL DO UPDATE SET
    details = excluded.details, probes = g.probes + 1,
    probe_at = service.now() + ($4::interval[])[least(g.probes + 2, cardinality($4::interval[]))]
WHERE $5

-- name: shut_for
-- Whether the relay's gate is shut because of these words ($2).
SELECT EXISTS (SELECT FROM service.shut_gate WHERE scope = 'relay' AND name = $1 AND details ->> 'words' = $2)

-- name: overruled
-- Whether a person opened the gate within 30 days that these words ($2) had shut.
SELECT EXISTS (SELECT FROM service.gate
               WHERE scope = 'relay' AND name = $1 AND details ->> 'words' = $2 AND NOT details ? 'probed'
                 AND opened_at > service.now() - interval '30 days')

-- name: await_reports
-- The relay took the mail of a probe ($3): whether it comes back is seen after $2.
UPDATE service.gate SET details = details || jsonb_build_object('taken', $3::bigint), probes = probes + 1, probe_at = service.now() + $2
WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL AND opened_at IS NULL

-- name: nothing_came_back
-- Whether the mail of the last probe was taken, and has not come back in time.
SELECT EXISTS (SELECT FROM service.gate AS g JOIN service.delivery_with_state AS d ON d.id = (g.details ->> 'taken')::bigint
               WHERE g.scope = 'relay' AND g.name = $1 AND g.probe_at <= service.now() AND g.opened_at IS NULL AND d.state = 'sent')

-- name: take_probe
-- Whoever gets a row may send one mail; the next probe comes after $2, unless its result is known earlier. $3: now, in any case.
UPDATE service.gate SET probe_at = service.now() + $2
WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL AND opened_at IS NULL AND ($3 OR probe_at <= service.now())
RETURNING id

-- name: put_back
-- There was no mail to probe with: the next probe may be tried after $2.
UPDATE service.gate SET probe_at = service.now() + $2
WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL AND opened_at IS NULL

-- name: open
-- The relay takes mail again, as a probe showed.
UPDATE service.gate SET opened_at = service.now(), opened_by = $2, details = details || '{"probed": true}'
WHERE scope = 'relay' AND name = $1 AND probe_at IS NOT NULL AND opened_at IS NULL
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
