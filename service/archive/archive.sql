-- name: oldest_end
-- When the oldest session that can ever be archived ended.
-- Rejected sessions are never archived: their end is unknown.
SELECT min(ended_at) FROM service.timer_sessions WHERE status IN ('completed', 'cancelled', 'abandoned')

-- name: count_due
-- How many sessions that ended in [$1, $2) can be archived now.
SELECT count(*) FROM service.archivable WHERE ended_at >= $1 AND ended_at < $2

-- name: count_sessions
-- How many sessions the dashboard has, as far as we know.
SELECT count(*) FROM service.expected WHERE collection = 'timer_sessions'

-- name: candidates
-- A page of the sessions that ended in [$1, $2) and can be archived, after a position ($3, $4), in order.
SELECT id, ended_at FROM service.archivable
WHERE ended_at >= $1 AND ended_at < $2 AND (ended_at, id) > ($3, $4) ORDER BY ended_at, id LIMIT $5

-- name: still_eligible
-- Which of these ($3) still end in [$1, $2) and can be archived, now that the copy is fresh.
SELECT id FROM service.archivable WHERE ended_at >= $1 AND ended_at < $2 AND id = ANY ($3::text[])

-- name: files
-- Every file of a collection, oldest month first.
SELECT * FROM service.archive_file WHERE collection = $1 ORDER BY month, generation

-- name: plan
-- Start a new generation of a month. Unverified ones are dropped: nothing was removed because of them.
WITH given_up AS (
    DELETE FROM service.archive_file WHERE collection = $1 AND month = $2 AND state IN ('planned', 'written')
    RETURNING generation
)
INSERT INTO service.archive_file (collection, month, generation)
SELECT $1, $2, 1 + greatest($3::int, (SELECT max(generation) FROM given_up),
                            (SELECT max(generation) FROM service.archive_file WHERE collection = $1 AND month = $2))
RETURNING generation

-- name: discard
-- A file that was never finished.
DELETE FROM service.archive_file WHERE collection = $1 AND month = $2 AND generation = $3 AND state IN ('planned', 'written')

-- name: record_written
-- The file was written and flushed to disk.
UPDATE service.archive_file SET state = 'written', rows = $4, bytes = $5, row_hash = $6, file_hash = $7, fresh_groups = $8,
                                changed_at = service.now()
WHERE collection = $1 AND month = $2 AND generation = $3

-- name: record_verified
-- The file was read back and has its manifest: it is the month's current one and replaces former ones.
WITH former AS (DELETE FROM service.archive_file WHERE collection = $1 AND month = $2 AND generation < $3)
UPDATE service.archive_file SET state = 'verified', changed_at = service.now()
WHERE collection = $1 AND month = $2 AND generation = $3

-- name: mark_for_removal
-- These are about to be removed: from now on the dashboard may lack them. Skips rows that the copy lacks: their owner was erased.
INSERT INTO service.archived_session (id, user_id, month)
SELECT u.id, u.user_id, $3 FROM unnest($1::text[], $2::text[]) AS u (id, user_id)
WHERE EXISTS (SELECT FROM service.timer_sessions AS s WHERE s.id = u.id)
ON CONFLICT (id) DO UPDATE SET month = excluded.month, user_id = excluded.user_id
RETURNING id

-- name: unmark
-- The dashboard has these: they are not archived.
DELETE FROM service.archived_session WHERE id = ANY ($1::text[])

-- name: not_erased
-- Which of these users were not erased.
SELECT u.user_id FROM unnest($1::text[]) AS u (user_id)
WHERE NOT EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(u.user_id))

-- name: archived_of
-- Which of these are archived in a month.
SELECT id FROM service.archived_session WHERE id = ANY ($1::text[]) AND month = $2

-- name: count_archived
-- How many sessions are archived in a month.
SELECT count(*) FROM service.archived_session WHERE month = $1

-- name: record_removed
-- One more row group was removed from the dashboard, except for $4 rows that were edited meanwhile.
UPDATE service.archive_file SET removed = removed + 1, leftovers = leftovers + $4, changed_at = service.now()
WHERE collection = $1 AND month = $2 AND generation = $3

-- name: record_deleted
-- Everything that this file added was removed from the dashboard.
UPDATE service.archive_file SET state = 'deleted', changed_at = service.now()
WHERE collection = $1 AND month = $2 AND generation = $3
