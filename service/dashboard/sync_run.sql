-- name: record_page
-- A page of the first load was stored.
UPDATE service.sync_state SET last_id = $2, rows_read = rows_read + $3 WHERE collection = $1

-- name: finish_first_load
-- The first load is complete.
UPDATE service.sync_state SET phase = 'live', synced_at = service.now(), swept_at = service.now(), error = NULL, zones = $2
WHERE collection = $1

-- name: known
-- Which documents ($2) of a table ($1) with these digests ($3) the copy has, or could not be read.
-- Looked up one by one: a join would read the whole table.
SELECT d.id FROM unnest($2::text[], $3::bigint[]) AS d (id, digest)
CROSS JOIN LATERAL (SELECT FROM service.expected AS e
                    WHERE e.collection = $1 AND e.id = d.id AND e.digest = d.digest OFFSET 0) AS e
UNION ALL
SELECT d.id FROM unnest($2::text[], $3::bigint[]) AS d (id, digest)
JOIN service.malformed_row AS m ON m.collection = $1 AND m.id = d.id AND m.digest = d.digest AND m.left_out

-- name: record_changes
-- A batch of changes was stored. A wrong clock at the dashboard never moves the watermark into the future.
UPDATE service.sync_state SET
    watermark = CASE WHEN $2::timestamptz IS NULL THEN watermark
                     ELSE greatest(watermark, least($2, service.now())) END,
    last_id = coalesce($3, last_id), rows_read = rows_read + $4
WHERE collection = $1

-- name: record_sync
-- The copy has everything that had been written when reading started ($2).
UPDATE service.sync_state SET synced_at = service.now(), fresh_at = $2, error = NULL WHERE collection = $1

-- name: users_without_zone
-- Users with an unknown time zone, in order of id.
SELECT id FROM service.users WHERE NOT timezone_valid AND id > $1 ORDER BY id LIMIT $2

-- name: record_zones
-- The version of the zone data with which users were read.
UPDATE service.sync_state SET zones = $1 WHERE collection = 'users'
