-- name: is_fresh
-- Whether all these collections ($2) are here, with everything that was written before an instant (NULL: at any time).
SELECT count(*) = cardinality($2::text[]) FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($2) AND ($1::timestamptz IS NULL OR fresh_at >= $1)

-- name: synced_at
-- When the last of these collections ($1) was copied; NULL: not all are.
SELECT CASE WHEN count(*) = cardinality($1::text[]) THEN min(synced_at) END FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($1)

-- name: record_error
-- Why the last attempt did not succeed.
UPDATE service.sync_state SET error = $1
