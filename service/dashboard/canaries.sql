-- name: sample_users
-- Up to 100 ids of users from 20 random pages of the table: a million rows cost as little as a thousand.
SELECT id FROM service.users
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.users'), 1)))
ORDER BY random() LIMIT 100

-- name: sample_goals
-- The same for goals that are not kept of a departed account.
SELECT id FROM service.goals AS g
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.goals'), 1)))
WHERE NOT EXISTS (SELECT FROM service.kept_row AS k WHERE k.collection = 'goals' AND k.id = g.id)
ORDER BY random() LIMIT 100

-- name: sample_timer_sessions
-- The same for sessions that are neither archived nor kept.
SELECT id FROM service.timer_sessions AS s
TABLESAMPLE SYSTEM (100 * least(1, 20 * 8192.0 / greatest(pg_relation_size('service.timer_sessions'), 1)))
WHERE NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id)
  AND NOT EXISTS (SELECT FROM service.kept_row AS k WHERE k.collection = 'timer_sessions' AND k.id = s.id)
ORDER BY random() LIMIT 100

-- name: count_users
-- How many of these users the copy still has.
SELECT count(*) FROM service.users WHERE id = ANY ($1::text[])

-- name: count_goals
-- How many of these goals the copy still has.
SELECT count(*) FROM service.expected WHERE collection = 'goals' AND id = ANY ($1::text[])

-- name: count_timer_sessions
-- How many of these sessions the copy still has, without those that the dashboard may lack.
SELECT count(*) FROM service.expected WHERE collection = 'timer_sessions' AND id = ANY ($1::text[])

-- name: count_users_email
-- How many of these users have an address in the copy.
SELECT count(*) FROM service.users WHERE id = ANY ($1::text[]) AND email IS NOT NULL

-- name: count_goals_due
-- How many of these goals have a date in the copy.
SELECT count(*) FROM service.goals WHERE id = ANY ($1::text[]) AND (due_date IS NOT NULL OR due_at IS NOT NULL)
