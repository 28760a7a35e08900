-- name: incoming_ids
-- The ids that the dashboard has.
CREATE TEMP TABLE IF NOT EXISTS incoming_ids (id text NOT NULL)

-- name: incoming_new
-- Those of them that the copy lacks.
CREATE TEMP TABLE IF NOT EXISTS incoming_new (id text PRIMARY KEY)

-- name: incoming_missing
-- Ids that the copy has and the dashboard lacks; to_delete: whether the row will be deleted from the copy.
CREATE TEMP TABLE IF NOT EXISTS incoming_missing (id text PRIMARY KEY, to_delete boolean NOT NULL DEFAULT false)

-- name: clear
-- Empty the temporary tables.
TRUNCATE incoming_ids, incoming_new, incoming_missing

-- name: analyze_ids
-- Autovacuum ignores temporary tables; without statistics the planner could compare row by row.
ANALYZE incoming_ids

-- name: forget_archived
-- Sessions that are back at the dashboard count as archived no more, unless they are being removed right now.
DELETE FROM service.archived_session AS s
WHERE EXISTS (SELECT FROM incoming_ids AS i WHERE i.id = s.id)
  AND NOT EXISTS (SELECT FROM service.archive_file AS f
                  WHERE f.collection = 'timer_sessions' AND f.month = s.month AND f.state = 'verified')

-- name: find_new
-- Rows that the dashboard has and the copy lacks.
INSERT INTO incoming_new
SELECT DISTINCT id FROM incoming_ids AS i
WHERE NOT EXISTS (SELECT FROM service.expected AS e WHERE e.collection = $1 AND e.id = i.id)

-- name: drop_erased
-- Erased users are not read again.
DELETE FROM incoming_new AS i
WHERE EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(i.id))

-- name: find_missing
-- Rows that the copy has and the dashboard lacks.
INSERT INTO incoming_missing (id)
SELECT id FROM service.expected AS e
WHERE collection = $1 AND NOT EXISTS (SELECT FROM incoming_ids AS i WHERE i.id = e.id)

-- name: next_new
-- The next page of new ids.
SELECT id FROM incoming_new WHERE id > $1 ORDER BY id LIMIT $2

-- name: next_missing
-- The next page of missing ids.
SELECT id FROM incoming_missing WHERE id > $1 ORDER BY id LIMIT $2

-- name: drop_existing
-- These ids are at the dashboard after all.
DELETE FROM incoming_missing WHERE id = ANY ($1::text[])

-- name: drop_not_in_copy
-- These ids are no longer in the copy: they were erased meanwhile.
DELETE FROM incoming_missing AS i
WHERE NOT EXISTS (SELECT FROM service.expected AS e WHERE e.collection = $1 AND e.id = i.id)

-- name: count_expected
-- How many rows the dashboard should have.
SELECT count(*) FROM service.expected WHERE collection = $1

-- name: last_24_hours
-- The last 24 hours: the rows at their start (without an older sweep: at the first one that deleted something,
-- else $2, the rows now), and how many were deleted since. Confirmed losses count in neither.
WITH sweeps AS (SELECT * FROM service.sweep WHERE collection = $1),
     recent AS (SELECT * FROM sweeps WHERE at > service.now() - interval '24 hours')
SELECT coalesce((SELECT held - deleted - confirmed FROM sweeps WHERE at <= service.now() - interval '24 hours'
                 ORDER BY at DESC LIMIT 1),
                (SELECT held FROM recent WHERE deleted + confirmed > 0 ORDER BY at LIMIT 1),
                $2::bigint) - coalesce(sum(confirmed), 0)::bigint AS start,
       coalesce(sum(deleted), 0)::bigint AS deleted
FROM recent

-- name: record_sweep
-- Record a sweep; one that deleted nothing is recorded at most once an hour.
WITH this AS (
    UPDATE service.sync_state SET swept_at = service.now() WHERE collection = $1 RETURNING swept_at)
INSERT INTO service.sweep AS s (collection, at, held, deleted, confirmed)
SELECT $1, swept_at, $2::bigint, $3::bigint, $4::bigint FROM this
WHERE $3::bigint + $4::bigint > 0
   OR NOT EXISTS (SELECT FROM service.sweep AS o WHERE o.collection = $1 AND o.at > swept_at - interval '1 hour')
ON CONFLICT (collection, at) DO UPDATE SET deleted = s.deleted + excluded.deleted,
                                           confirmed = s.confirmed + excluded.confirmed

-- name: delete_old_sweeps
-- Of the sweeps older than a day only the last one matters.
DELETE FROM service.sweep
WHERE collection = $1
  AND at < (SELECT max(at) FROM service.sweep WHERE collection = $1 AND at <= service.now() - interval '24 hours')

-- name: due_tables
-- The tables whose last sweep is $1 or longer ago, or with a confirmed loss.
SELECT collection FROM service.sync_state AS s
WHERE phase = 'live' AND (swept_at IS NULL OR swept_at <= service.now() - $1::interval
    OR EXISTS (SELECT FROM service.missing_row AS m
               WHERE m.collection = s.collection AND m.confirmed_at IS NOT NULL))

-- name: delete_users
-- Accounts that the dashboard no longer has.
DELETE FROM service.users WHERE id IN (SELECT id FROM incoming_missing WHERE to_delete)

-- name: delete_goals
-- Goals that the dashboard no longer has.
DELETE FROM service.goals WHERE id IN (SELECT id FROM incoming_missing WHERE to_delete)

-- name: delete_timer_sessions
-- Sessions that the dashboard no longer has.
DELETE FROM service.timer_sessions WHERE id IN (SELECT id FROM incoming_missing WHERE to_delete)

-- name: mark_confirmed
-- Mark for deletion what is missing and was confirmed.
UPDATE incoming_missing SET to_delete = true
WHERE id IN (SELECT id FROM service.missing_row WHERE collection = $1 AND confirmed_at IS NOT NULL)

-- name: mark_all
-- Mark for deletion whatever is missing.
UPDATE incoming_missing SET to_delete = true WHERE NOT to_delete

-- name: count_unmarked
-- How many missing rows are not marked for deletion.
SELECT count(*) FROM incoming_missing WHERE NOT to_delete

-- name: delete_confirmations
-- Forget the missing rows that are deleted: a confirmation counts once.
DELETE FROM service.missing_row WHERE collection = $1 AND id IN (SELECT id FROM incoming_missing WHERE to_delete)

-- name: remember_missing
-- Remember missing rows until somebody confirms their loss, or they are back.
INSERT INTO service.missing_row (collection, id, since) SELECT $1, id, service.now() FROM incoming_missing WHERE NOT to_delete
ON CONFLICT DO NOTHING

-- name: open_loss
-- Open a loss, which somebody has to confirm.
UPDATE service.sync_state
SET lost_since = coalesce(lost_since, service.now()), lost_of = coalesce(lost_of, $2), lost_gone = coalesce(lost_gone, $3)
WHERE collection = $1

-- name: tables_with_open_loss
-- Tables with a loss that nobody has confirmed.
SELECT collection FROM service.sync_state WHERE lost_since IS NOT NULL

-- name: has_unconfirmed
-- Whether there are missing rows whose loss nobody has confirmed.
SELECT EXISTS (SELECT FROM service.missing_row WHERE collection = $1 AND confirmed_at IS NULL)

-- name: sample_remembered
-- A random sample of the missing rows that are remembered.
SELECT id FROM service.missing_row WHERE collection = $1 ORDER BY random() LIMIT $2

-- name: next_remembered
-- The next page of them.
SELECT id FROM service.missing_row WHERE collection = $1 AND id > $2 ORDER BY id LIMIT $3

-- name: forget_returned
-- These rows are back.
DELETE FROM service.missing_row WHERE collection = $1 AND id = ANY ($2::text[])

-- name: forget_no_longer_missing
-- Forget rows that are no longer missing.
DELETE FROM service.missing_row AS m
WHERE collection = $1 AND NOT EXISTS (SELECT FROM incoming_missing AS i WHERE i.id = m.id)

-- name: close_loss
-- Close the loss when no missing row is left.
UPDATE service.sync_state SET lost_since = NULL, lost_of = NULL, lost_gone = NULL
WHERE collection = $1 AND lost_since IS NOT NULL AND NOT EXISTS (SELECT FROM service.missing_row WHERE collection = $1)

-- name: close_loss_and_sweep
-- Close the loss after rows came back, and sweep soon: other rows may have come with them.
UPDATE service.sync_state SET lost_since = NULL, lost_of = NULL, lost_gone = NULL, swept_at = NULL
WHERE collection = $1 AND lost_since IS NOT NULL AND NOT EXISTS (SELECT FROM service.missing_row WHERE collection = $1)

-- name: open_losses
-- All losses that nobody has confirmed, with their numbers.
SELECT s.collection AS table, s.lost_gone + count(m.id) AS missing, s.lost_of AS of, count(m.id) AS waiting,
       s.lost_since AS since
FROM service.sync_state AS s LEFT JOIN service.missing_row AS m USING (collection)
WHERE s.lost_since IS NOT NULL GROUP BY s.collection ORDER BY s.collection

-- name: confirm_loss
-- Confirm the loss of exactly the rows that are missing now.
WITH accepted AS (
    UPDATE service.missing_row SET confirmed_at = service.now()
    WHERE collection = $1 AND confirmed_at IS NULL RETURNING 1),
audited AS (
    INSERT INTO service.audit (who, act, what)
    SELECT $2, 'confirm loss', jsonb_build_object('table', $1::text, 'rows', n)
    FROM (SELECT count(*) AS n FROM accepted) AS a WHERE n > 0)
SELECT count(*) FROM accepted
