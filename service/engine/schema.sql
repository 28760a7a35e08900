-- name: range_exists
-- Whether the database says anything about it: it does since migration 18.
SELECT to_regclass('service.schema_range') IS NOT NULL

-- name: range
-- What a release must know to read and to write here.
SELECT version, readable_from, writable_from FROM service.schema_range

-- name: version
-- The newest migration that was applied, by whichever release.
UPDATE service.schema_range SET version = $1 WHERE version IS DISTINCT FROM $1

-- name: replicas_exist
-- Whether the database knows of processes: an empty one does not.
SELECT to_regclass('service.replica') IS NOT NULL

-- name: replicas
-- The processes that were alive in the last five minutes, and their releases.
SELECT name, version FROM service.replica WHERE seen_at > service.now() - interval '5 minutes' ORDER BY name
