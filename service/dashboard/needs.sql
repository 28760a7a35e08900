-- name: holds_users
-- Whether the copy has any user.
SELECT EXISTS (SELECT FROM service.users)

-- name: holds_goals
-- Whether the copy has any goal.
SELECT EXISTS (SELECT FROM service.goals)

-- name: holds_timer_sessions
-- Whether the copy has any session.
SELECT EXISTS (SELECT FROM service.timer_sessions)

-- name: filled_users
-- A sample of users, from 20 random pages of the copy, and whether they have an address.
SELECT id, email IS NOT NULL AS filled FROM service.users
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.users'), 1)))

-- name: filled_goals
-- A sample of goals, from 20 random pages of the copy, and whether they have a due date.
SELECT id, due_date IS NOT NULL OR due_at IS NOT NULL AS filled FROM service.goals
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.goals'), 1)))

-- name: stored_users
-- The addresses of these users in the copy.
SELECT id, email FROM service.users WHERE id = ANY ($1::text[]) AND email IS NOT NULL

-- name: stored_goals
-- The due dates of these goals in the copy.
SELECT id, due_date, due_at FROM service.goals
WHERE id = ANY ($1::text[]) AND (due_date IS NOT NULL OR due_at IS NOT NULL)

-- name: load
-- What the last synchronisation found missing: the jobs that need it wait.
SELECT name, details ->> 'said' AS said FROM service.shut_gate WHERE scope = 'table' AND cause = 'field' ORDER BY name
