-- name: pass
-- The pass under way, and how many rows of it are staged; no row, or no position: there is none.
SELECT pass_after, pass_rows, pass_since, (SELECT count(*) FROM service.staged_row WHERE collection = $1) AS staged
FROM service.sync_state WHERE collection = $1 AND pass_after IS NOT NULL

-- name: forget_staged
-- Forget what a pass has read.
DELETE FROM service.staged_row WHERE collection = $1

-- name: forget_different
-- Forget what a pass has found.
DELETE FROM service.different_row WHERE collection = $1

-- name: begin_pass
-- Begin a pass. $2: it is about sessions that started since then; NULL: about all rows.
UPDATE service.sync_state SET pass_after = '', pass_rows = 0, pass_since = $2, pass_spent = '0' WHERE collection = $1

-- name: record_page
-- A page of $3 rows was staged, up to the position $2, in the time $4.
UPDATE service.sync_state SET pass_after = $2, pass_rows = pass_rows + $3, pass_spent = pass_spent + $4
WHERE collection = $1

-- name: end_pass
-- The pass is over.
UPDATE service.sync_state SET pass_after = NULL,
    pass_lasted = CASE WHEN pass_since IS NULL THEN pass_spent ELSE pass_lasted END,
    recent_at = CASE WHEN collection = 'timer_sessions' THEN service.now() END
WHERE collection = $1

-- name: analyze_staged
-- Without statistics the planner could compare row by row.
ANALYZE service.staged_row

-- name: forget_archived
-- Sessions that are back at the dashboard count as archived no more, unless they are being removed right now.
DELETE FROM service.archived_session AS s
WHERE EXISTS (SELECT FROM service.staged_row AS i WHERE i.collection = 'timer_sessions' AND i.id = s.id)
  AND NOT EXISTS (SELECT FROM service.archive_file AS f
                  WHERE f.collection = 'timer_sessions' AND f.month = s.month AND f.state = 'verified')

-- name: forget_kept
-- Rows of departed accounts that are back at the dashboard are kept no more.
DELETE FROM service.kept_row AS k
WHERE collection = $1 AND EXISTS (SELECT FROM service.staged_row AS i WHERE i.collection = $1 AND i.id = k.id)

-- name: find_different
-- Rows that the dashboard has and the copy lacks, or has with another digest, without those that could not be read and are
-- the same; and missing ones, which the copy has and the dashboard lacks ($2: of sessions that started since then; NULL: of
-- all rows).
INSERT INTO service.different_row (collection, id, missing)
SELECT $1, id, s.id IS NULL
FROM (SELECT id, digest FROM service.staged_row WHERE collection = $1) AS s
FULL JOIN (SELECT id, digest, started_at FROM service.expected WHERE collection = $1) AS e USING (id)
WHERE CASE WHEN s.id IS NULL THEN $2::timestamptz IS NULL OR e.started_at >= $2
           ELSE s.digest IS DISTINCT FROM e.digest END
  AND NOT EXISTS (SELECT FROM service.malformed_row AS m
                  WHERE m.collection = $1 AND m.id = s.id AND m.digest = s.digest AND m.left_out)
ON CONFLICT DO NOTHING

-- name: drop_erased
-- Erased users are not read again.
DELETE FROM service.different_row AS i
WHERE collection = 'users' AND EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(i.id))

-- name: find_gone
-- Those of these rows ($2), which the dashboard lacks, that the copy has.
INSERT INTO service.different_row (collection, id, missing)
SELECT collection, id, true FROM service.expected WHERE collection = $1 AND id = ANY ($2::text[])

-- name: compare_gone
-- A pass decides about these rows ($2): the one under way finds that they are missing, else one begins at the next synchronisation.
WITH gone AS (DELETE FROM service.staged_row WHERE collection = $1 AND id = ANY ($2::text[]) RETURNING 1)
UPDATE service.sync_state SET pass_rows = pass_rows - (SELECT count(*) FROM gone),
    swept_at = CASE WHEN pass_after IS NOT NULL AND pass_since IS NULL THEN swept_at END
WHERE collection = $1

-- name: compare_anew
-- Compare these tables at the next synchronisation, from the start.
UPDATE service.sync_state SET swept_at = NULL, pass_after = NULL WHERE collection = ANY ($1::text[])

-- name: forget_mended
-- Forget what was wrong with documents that are no longer as they were.
DELETE FROM service.malformed_row AS m
WHERE collection = $1
  AND NOT EXISTS (SELECT FROM service.staged_row AS s WHERE s.collection = $1 AND s.id = m.id AND s.digest = m.digest)
  AND NOT EXISTS (SELECT FROM service.expected AS e WHERE e.collection = $1 AND e.id = m.id AND e.digest = m.digest)

-- name: next_different
-- The next page of rows to read again.
SELECT id FROM service.different_row WHERE collection = $1 AND NOT missing AND id > $2 ORDER BY id LIMIT $3

-- name: next_missing
-- The next page of missing rows.
SELECT id FROM service.different_row WHERE collection = $1 AND missing AND id > $2 ORDER BY id LIMIT $3

-- name: mark_existing
-- These are at the dashboard after all: read them again.
UPDATE service.different_row SET missing = false WHERE collection = $1 AND id = ANY ($2::text[])

-- name: drop_not_in_copy
-- These ids are no longer in the copy: they were erased meanwhile.
DELETE FROM service.different_row AS i
WHERE collection = $1 AND missing AND NOT EXISTS (SELECT FROM service.expected AS e WHERE e.collection = $1 AND e.id = i.id)

-- name: count_expected
-- How many rows the dashboard should have.
SELECT count(*) FROM service.expected WHERE collection = $1

-- name: last_24_hours
-- The last 24 hours: the rows at their start (without an older pass: at the first one that deleted something,
-- else $2, the rows now), and how many were deleted since. Confirmed losses count in neither.
WITH sweeps AS (SELECT * FROM service.sweep WHERE collection = $1),
     recent AS (SELECT * FROM sweeps WHERE at > service.now() - interval '24 hours')
SELECT coalesce((SELECT held - deleted - confirmed FROM sweeps WHERE at <= service.now() - interval '24 hours'
                 ORDER BY at DESC LIMIT 1),
                (SELECT held FROM recent WHERE deleted + confirmed > 0 ORDER BY at LIMIT 1),
                $2::bigint) - coalesce(sum(confirmed), 0)::bigint AS start,
       coalesce(sum(deleted), 0)::bigint AS deleted
FROM recent

-- name: record_pass
-- Record a pass ($5: a whole one); one that deleted nothing is recorded at most once an hour.
WITH this AS (
    UPDATE service.sync_state SET swept_at = CASE WHEN $5::boolean THEN service.now() ELSE swept_at END
    WHERE collection = $1 RETURNING service.now() AS at)
INSERT INTO service.sweep AS s (collection, at, held, deleted, confirmed)
SELECT $1, at, $2::bigint, $3::bigint, $4::bigint FROM this
WHERE $3::bigint + $4::bigint > 0
   OR NOT EXISTS (SELECT FROM service.sweep AS o WHERE o.collection = $1 AND o.at > this.at - interval '1 hour')
ON CONFLICT (collection, at) DO UPDATE SET deleted = s.deleted + excluded.deleted,
                                           confirmed = s.confirmed + excluded.confirmed

-- name: delete_old_passes
-- Of the passes older than a day only the last one matters.
DELETE FROM service.sweep
WHERE collection = $1
  AND at < (SELECT max(at) FROM service.sweep WHERE collection = $1 AND at <= service.now() - interval '24 hours')

-- name: due_tables
-- The tables to compare now: a pass is under way, the last one is long enough ago ($1: of users and goals, at least 150 times as
-- long as it took; $2: of sessions), or a loss was confirmed.
SELECT collection FROM service.sync_state AS s
WHERE phase = 'live' AND (pass_after IS NOT NULL AND pass_since IS NULL OR swept_at IS NULL
    OR swept_at <= service.now() - CASE collection WHEN 'timer_sessions' THEN $2::interval
                                   ELSE greatest($1::interval, 150 * pass_lasted) END
    OR EXISTS (SELECT FROM service.missing_row AS m
               WHERE m.collection = s.collection AND m.confirmed_at IS NOT NULL))

-- name: recent_sessions_due
-- Since when sessions are to be compared now, $2 before now; no row: they were less than $1 ago, or all are just now.
SELECT coalesce(CASE WHEN pass_after IS NOT NULL THEN pass_since END, service.now() - $2::interval) AS since
FROM service.sync_state
WHERE collection = 'timer_sessions' AND phase = 'live' AND (pass_after IS NULL OR pass_since IS NOT NULL)
  AND coalesce(greatest(recent_at, swept_at), '-infinity') <= service.now() - $1::interval

-- name: delete_users
-- Accounts that the dashboard no longer has.
DELETE FROM service.users
WHERE id IN (SELECT id FROM service.different_row WHERE collection = 'users' AND to_delete)

-- name: delete_goals
-- Goals that the dashboard no longer has.
DELETE FROM service.goals
WHERE id IN (SELECT id FROM service.different_row WHERE collection = 'goals' AND to_delete)

-- name: delete_timer_sessions
-- Sessions that the dashboard no longer has.
DELETE FROM service.timer_sessions
WHERE id IN (SELECT id FROM service.different_row WHERE collection = 'timer_sessions' AND to_delete)

-- name: mark_confirmed
-- Mark for deletion what is missing and was confirmed.
UPDATE service.different_row SET to_delete = true
WHERE collection = $1 AND missing AND id IN (SELECT id FROM service.missing_row WHERE collection = $1 AND confirmed_at IS NOT NULL)

-- name: mark_all
-- Mark for deletion whatever is missing.
UPDATE service.different_row SET to_delete = true WHERE collection = $1 AND missing AND NOT to_delete

-- name: count_unmarked
-- How many missing rows are not marked for deletion.
SELECT count(*) FROM service.different_row WHERE collection = $1 AND missing AND NOT to_delete

-- name: delete_confirmations
-- Forget the missing rows that are deleted: a confirmation counts once.
DELETE FROM service.missing_row
WHERE collection = $1 AND id IN (SELECT id FROM service.different_row WHERE collection = $1 AND to_delete)

-- name: remember_missing
-- Remember missing rows until somebody confirms their loss, or they are back.
INSERT INTO service.missing_row (collection, id, since)
SELECT collection, id, service.now() FROM service.different_row WHERE collection = $1 AND missing AND NOT to_delete
ON CONFLICT DO NOTHING

-- name: open_loss
-- Open a loss, which somebody has to confirm, and shut its gate.
WITH opened AS (
    UPDATE service.sync_state SET lost_since = coalesce(lost_since, service.now()), lost_of = coalesce(lost_of, $2),
                                  lost_gone = coalesce(lost_gone, $3)
    WHERE collection = $1 RETURNING collection, lost_of)
INSERT INTO service.gate (scope, name, cause, by, details)
SELECT 'table', collection, 'absence', 'synchronisation', jsonb_build_object('of', lost_of) FROM opened
ON CONFLICT (scope, name, cause) WHERE opened_at IS NULL DO NOTHING

-- name: tables_with_open_loss
-- Tables with a loss that nobody has confirmed.
SELECT collection FROM service.sync_state WHERE lost_since IS NOT NULL

-- name: unconfirmed_rows
-- Those of these rows ($1 tables, $2 ids) that are missing in a loss which nobody has confirmed.
SELECT m.collection, m.id FROM service.missing_row AS m JOIN unnest($1::text[], $2::text[]) AS r (collection, id) USING (collection, id)
WHERE m.confirmed_at IS NULL

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
WHERE collection = $1 AND NOT EXISTS (SELECT FROM service.different_row AS i
                                      WHERE i.collection = $1 AND i.missing AND i.id = m.id)

-- name: close_loss
-- Close the loss when no missing row is left, and open its gate.
WITH closed AS (
    UPDATE service.sync_state SET lost_since = NULL, lost_of = NULL, lost_gone = NULL
    WHERE collection = $1 AND lost_since IS NOT NULL AND NOT EXISTS (SELECT FROM service.missing_row WHERE collection = $1)
    RETURNING collection)
UPDATE service.gate SET opened_at = service.now(), opened_by = 'synchronisation'
WHERE scope = 'table' AND cause = 'absence' AND opened_at IS NULL AND name IN (SELECT collection FROM closed)

-- name: close_loss_and_compare
-- Close the loss after rows came back, open its gate, and compare soon: other rows may have come with them.
WITH closed AS (
    UPDATE service.sync_state SET lost_since = NULL, lost_of = NULL, lost_gone = NULL, swept_at = NULL
    WHERE collection = $1 AND lost_since IS NOT NULL AND NOT EXISTS (SELECT FROM service.missing_row WHERE collection = $1)
    RETURNING collection)
UPDATE service.gate SET opened_at = service.now(), opened_by = 'synchronisation'
WHERE scope = 'table' AND cause = 'absence' AND opened_at IS NULL AND name IN (SELECT collection FROM closed)

-- name: open_losses
-- All losses that nobody has confirmed, with their numbers.
SELECT s.collection AS table, s.lost_gone + count(m.id) AS missing, s.lost_of AS of, count(m.id) AS waiting,
       s.lost_since AS since
FROM service.sync_state AS s LEFT JOIN service.missing_row AS m USING (collection)
WHERE s.lost_since IS NOT NULL GROUP BY s.collection ORDER BY s.collection

-- name: confirm_loss
-- Confirm the loss of exactly the rows that are missing now. $2 actor; $3 why, or empty; $4 how many they must be, or NULL.
WITH accepted AS (
    UPDATE service.missing_row SET confirmed_at = service.now()
    WHERE collection = $1 AND confirmed_at IS NULL
      AND ($4::bigint IS NULL
           OR $4 = (SELECT count(*) FROM service.missing_row WHERE collection = $1 AND confirmed_at IS NULL))
    RETURNING 1),
audited AS (
    INSERT INTO service.audit (who, act, what)
    SELECT $2, 'confirm loss', jsonb_strip_nulls(jsonb_build_object('table', $1::text, 'rows', n, 'reason', nullif($3::text, '')))
    FROM (SELECT count(*) AS n FROM accepted) AS a WHERE n > 0)
SELECT count(*) FROM accepted

-- name: count_unconfirmed
-- How many rows are missing whose loss nobody has confirmed.
SELECT count(*) FROM service.missing_row WHERE collection = $1 AND confirmed_at IS NULL
