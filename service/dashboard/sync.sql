-- name: zoneless
-- People whose zone was not known, in order.
SELECT id FROM service.users WHERE NOT timezone_valid AND id > $1 ORDER BY id LIMIT $2

-- name: zones_read
-- By which zones ($1) the users have been read, and what was rejected.
UPDATE service.sync_state SET zones = $1, rejected = $2 WHERE collection = 'users'

-- name: states
-- What is known about each collection.
SELECT * FROM service.sync_state

-- name: begin
-- Start a first load: from the beginning; changes are followed from the newest time of writing, if there is one.
INSERT INTO service.sync_state (collection, phase, profile, watermark, last_id)
VALUES ($1, 'loading', $2, CASE WHEN $3::timestamptz IS NOT NULL THEN least($3, service.now()) END, '')
ON CONFLICT (collection) DO UPDATE SET
    phase = 'loading', profile = excluded.profile, watermark = excluded.watermark, last_id = '',
    rows_read = 0, rejected = '{}', error = NULL
RETURNING *

-- name: loaded
-- A page of the first load was stored.
UPDATE service.sync_state SET last_id = $2, rows_read = rows_read + $3, rejected = $4 WHERE collection = $1

-- name: live
-- The first load is complete.
UPDATE service.sync_state SET phase = 'live', synced_at = service.now(), swept_at = service.now(), error = NULL, zones = $2
WHERE collection = $1

-- name: followed
-- A batch of changes was stored. A wrong clock at the dashboard never moves the watermark into the future.
UPDATE service.sync_state SET
    watermark = CASE WHEN $2::timestamptz IS NULL THEN watermark
                     ELSE greatest(watermark, least($2, service.now())) END,
    last_id = coalesce($3, last_id), rows_read = rows_read + $4, rejected = $5
WHERE collection = $1

-- name: synced
-- Everything is here that had been written when the reading began ($2).
UPDATE service.sync_state SET synced_at = service.now(), fresh_at = $2, error = NULL WHERE collection = $1

-- name: fresh
-- Whether all these collections ($2) are here, with everything that was written before an instant (NULL: at any time).
SELECT count(*) = cardinality($2::text[]) FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($2) AND ($1::timestamptz IS NULL OR fresh_at >= $1)

-- name: synced_at
-- When the last of these collections ($1) was copied; NULL: not all are.
SELECT CASE WHEN count(*) = cardinality($1::text[]) THEN min(synced_at) END FROM service.sync_state
WHERE phase = 'live' AND collection = ANY ($1)

-- name: beside_0_1_0
-- A process of release 0.1.0 may run beside this one during a roll-out, and takes this lock for as long as it reads.
-- Not waited for: it may stand still. Drop this with the next release.
SELECT pg_try_advisory_xact_lock_shared($1)

-- name: failed
-- Why the last attempt did not succeed.
UPDATE service.sync_state SET error = $1
