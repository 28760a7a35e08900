-- name: holds_users
-- Whether the copy holds anybody.
SELECT EXISTS (SELECT FROM service.users)

-- name: holds_goals
-- Whether the copy holds any goal.
SELECT EXISTS (SELECT FROM service.goals)

-- name: holds_timer_sessions
-- Whether the copy holds any session.
SELECT EXISTS (SELECT FROM service.timer_sessions)

-- name: filled_users
-- Who of some people, of 20 pages anywhere in the copy, has an address.
SELECT id, email IS NOT NULL AS filled FROM service.users
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.users'), 1)))

-- name: filled_goals
-- Which of some goals, of 20 pages anywhere in the copy, have a due date.
SELECT id, due_date IS NOT NULL OR due_at IS NOT NULL AS filled FROM service.goals
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.goals'), 1)))

-- name: stored_users
-- The addresses that the copy has.
SELECT id, email FROM service.users WHERE id = ANY ($1::text[]) AND email IS NOT NULL

-- name: stored_goals
-- The due dates that the copy has.
SELECT id, due_date, due_at FROM service.goals
WHERE id = ANY ($1::text[]) AND (due_date IS NOT NULL OR due_at IS NOT NULL)

-- name: load
-- What the last synchronisation found missing.
SELECT name, said FROM service.dashboard_gap ORDER BY name

-- name: store
-- These are missing ($1 names, $2 sentences); since when, is kept.
INSERT INTO service.dashboard_gap (name, said)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (name) DO UPDATE SET said = excluded.said

-- name: delete_resolved
-- Everything but these ($1) is there again, and has been read.
DELETE FROM service.dashboard_gap WHERE name <> ALL ($1::text[])
