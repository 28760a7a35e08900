-- name: zones
-- The zones that PostgreSQL can compute with.
SELECT name FROM pg_timezone_names

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
UPDATE service.sync_state SET phase = 'live', synced_at = service.now(), swept_at = service.now(), error = NULL
WHERE collection = $1

-- name: followed
-- A batch of changes was stored. A wrong clock at the dashboard never moves the watermark into the future.
UPDATE service.sync_state SET
    watermark = CASE WHEN $2::timestamptz IS NULL THEN watermark
                     ELSE greatest(watermark, least($2, service.now())) END,
    last_id = coalesce($3, last_id), rows_read = rows_read + $4, rejected = $5
WHERE collection = $1

-- name: synced
-- Everything that had changed is here.
UPDATE service.sync_state SET synced_at = service.now(), error = NULL WHERE collection = $1

-- name: swept
-- Deletions have been looked for.
UPDATE service.sync_state SET swept_at = service.now() WHERE collection = $1

-- name: sweep_due
-- Whether a collection has not been swept for so long ($1).
SELECT collection FROM service.sync_state
WHERE phase = 'live' AND (swept_at IS NULL OR swept_at <= service.now() - $1::interval)

-- name: failed
-- Why the last attempt did not succeed.
UPDATE service.sync_state SET error = $1

-- name: ids_users
-- Ids of the replica in order.
SELECT id FROM service.users WHERE id > $1 ORDER BY id LIMIT $2

-- name: ids_goals
-- Ids of the replica in order.
SELECT id FROM service.goals WHERE id > $1 ORDER BY id LIMIT $2

-- name: ids_timer_sessions
-- Ids of the replica in order.
SELECT id FROM service.timer_sessions WHERE id > $1 ORDER BY id LIMIT $2

-- name: returned
-- Sessions that are at the dashboard ($1) are not archived, unless they are being removed at this moment.
DELETE FROM service.archived_session AS s
WHERE s.id = ANY ($1::text[])
  AND NOT EXISTS (SELECT FROM service.archive_file AS f
                  WHERE f.collection = 'timer_sessions' AND f.month = s.month AND f.state = 'verified')

-- name: archived
-- Which of these sessions we removed ourselves.
SELECT id FROM service.archived_session WHERE id = ANY ($1::text[])
