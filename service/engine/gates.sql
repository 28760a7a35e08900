-- name: shut
-- Shut a gate. One that is shut already stays as it is, but for its end and details.
INSERT INTO service.gate AS g (scope, name, cause, by, details, until) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (scope, name, cause) WHERE opened_at IS NULL DO UPDATE SET
    details = excluded.details, until = excluded.until,
    since = CASE WHEN g.until <= service.now() THEN excluded.since ELSE g.since END,
    by = CASE WHEN g.until <= service.now() THEN excluded.by ELSE g.by END
RETURNING id, xmax = 0 AS is_new

-- name: open
-- Open a gate by its id. No row: it is open, or there is none.
UPDATE service.gate SET opened_at = service.now(), opened_by = $2 WHERE id = $1 AND opened_at IS NULL
RETURNING id, scope, name, cause

-- name: open_others
-- Open the gates of a scope ($1) and cause ($2), but for these names ($3).
UPDATE service.gate SET opened_at = service.now(), opened_by = $4
WHERE scope = $1 AND cause = $2 AND opened_at IS NULL AND name <> ALL ($3::text[])

-- name: current
-- The gates that are shut now, the oldest first.
SELECT * FROM service.shut_gate ORDER BY since, id

-- name: audit
-- Who shut or opened a gate.
INSERT INTO service.audit (who, act, what)
VALUES ($1, $2, jsonb_build_object('gate', $3::bigint, 'scope', $4::text, 'name', $5::text, 'reason', $6::text))
