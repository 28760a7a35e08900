-- name: range_exists
-- Whether the database says anything about it: it does since migration 18.
SELECT to_regclass('service.schema_range') IS NOT NULL

-- name: range
-- What a release must know to read and to write here.
SELECT version, readable_from, writable_from FROM service.schema_range

-- name: version
-- The newest migration that was applied, by whichever release.
UPDATE service.schema_range SET version = $1 WHERE version IS DISTINCT FROM $1
