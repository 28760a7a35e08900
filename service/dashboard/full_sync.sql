-- name: restart
-- Read every row of all tables again, from the start. Tables whose first load is under way are read anyway.
UPDATE service.sync_state SET full_after = '', full_rows = 0, full_since = service.now()
WHERE phase = 'live' RETURNING collection

-- name: audit
-- Who asked for it, and why. $1 actor, $2 tables, $3 reason.
INSERT INTO service.audit (who, act, what)
VALUES ($1, 'full-sync', jsonb_build_object('tables', $2::text[], 'reason', $3::text))

-- name: under_way
-- The tables of which every row is being read again.
SELECT collection AS table, full_since AS since, full_rows AS rows FROM service.sync_state
WHERE full_after IS NOT NULL ORDER BY collection

-- name: position
-- Where to go on with a table; NULL: its rows are not being read again.
SELECT full_after FROM service.sync_state WHERE collection = $1

-- name: record_page
-- A page of $3 rows was stored, up to the position $2.
UPDATE service.sync_state SET full_after = $2, full_rows = full_rows + $3 WHERE collection = $1

-- name: finish
-- All rows of a table were read. Now it is compared, which finds those that the dashboard lacks.
UPDATE service.sync_state SET full_after = NULL, pass_after = '', pass_rows = 0, pass_since = NULL
WHERE collection = $1
