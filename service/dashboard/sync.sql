-- name: is_fresh
-- Whether all these tables ($2) have been loaded, and read after an instant ($1; NULL: at any time).
SELECT count(*) = cardinality($2::text[]) FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($2) AND ($1::timestamptz IS NULL OR fresh_at >= $1)

-- name: synced_at
-- Since when all these tables ($1) are up to date; NULL: not all have been loaded.
SELECT CASE WHEN count(*) = cardinality($1::text[]) THEN min(synced_at) END FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($1)

-- name: compared_at
-- When each table was last compared with the dashboard as a whole.
SELECT collection, swept_at FROM service.sync_state WHERE swept_at IS NOT NULL

-- name: record_error
-- Why the last attempt did not succeed.
UPDATE service.sync_state SET error = $1

-- name: rejected
-- How many documents or values of each table could not be read, by reason.
SELECT collection, reason, count(*) AS n FROM service.malformed_row, unnest(reasons) AS reason
GROUP BY collection, reason ORDER BY collection, reason
