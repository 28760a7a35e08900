-- name: incoming_users
-- The target of COPY, gone at each commit, because a pooler may lend its session to others; jsonb is copied as text because COPY is binary.
CREATE TEMP TABLE IF NOT EXISTS incoming_users ON COMMIT DROP AS
SELECT id, name, email, timezone, timezone_valid, locale, active, preferences::text AS preferences,
       created_at, last_login_at, updated_at, digest, mail_address
FROM service.users WITH NO DATA

-- name: incoming_goals
-- The target of COPY, gone at each commit, because a pooler may lend its session to others.
CREATE TEMP TABLE IF NOT EXISTS incoming_goals ON COMMIT DROP AS
SELECT * FROM service.goals WITH NO DATA

-- name: incoming_timer_sessions
-- The target of COPY, gone at each commit, because a pooler may lend its session to others.
CREATE TEMP TABLE IF NOT EXISTS incoming_timer_sessions ON COMMIT DROP AS
SELECT * FROM service.timer_sessions WITH NO DATA

-- name: upsert_users
-- What was read last wins, whatever its time of writing; rows that are as they were are not touched.
INSERT INTO service.users AS t
       (id, name, email, timezone, timezone_valid, locale, active, preferences, created_at, last_login_at, updated_at,
       digest, mail_address)
SELECT id, name, email, timezone, timezone_valid, locale, active, preferences::jsonb, created_at, last_login_at, updated_at,
       digest, mail_address
FROM incoming_users AS i
WHERE NOT (EXISTS (SELECT FROM service.erased)
           AND EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(i.id)))
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, email = excluded.email, timezone = excluded.timezone,
    timezone_valid = excluded.timezone_valid, locale = excluded.locale, active = excluded.active,
    preferences = excluded.preferences, created_at = excluded.created_at,
    last_login_at = excluded.last_login_at, updated_at = excluded.updated_at, digest = excluded.digest,
    mail_address = excluded.mail_address
WHERE ROW (t.*) IS DISTINCT FROM ROW (excluded.*)

-- name: upsert_goals
-- What was read last wins.
INSERT INTO service.goals AS t
       (id, user_id, title, category, open, priority, target_value, current_value, unit, progress,
        due_date, due_at, created_at, completed_at, updated_at, digest)
SELECT id, user_id, title, category, open, priority, target_value, current_value, unit, progress,
       due_date, due_at, created_at, completed_at, updated_at, digest
FROM incoming_goals AS i
WHERE NOT (EXISTS (SELECT FROM service.erased)
           AND EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(i.user_id)))
ON CONFLICT (id) DO UPDATE SET
    user_id = excluded.user_id, title = excluded.title, category = excluded.category, open = excluded.open,
    priority = excluded.priority, target_value = excluded.target_value,
    current_value = excluded.current_value, unit = excluded.unit, progress = excluded.progress,
    due_date = excluded.due_date, due_at = excluded.due_at, created_at = excluded.created_at,
    completed_at = excluded.completed_at, updated_at = excluded.updated_at, digest = excluded.digest
WHERE ROW (t.*) IS DISTINCT FROM ROW (excluded.*)

-- name: upsert_timer_sessions
-- What was read last wins.
INSERT INTO service.timer_sessions AS t
       (id, user_id, goal_id, kind, focus, status, started_at, ended_at, paused_at, planned_seconds,
        focus_seconds, category, tags, rating, updated_at, digest)
SELECT id, user_id, goal_id, kind, focus, status, started_at, ended_at, paused_at, planned_seconds,
       focus_seconds, category, tags, rating, updated_at, digest
FROM incoming_timer_sessions AS i
WHERE NOT (EXISTS (SELECT FROM service.erased)
           AND EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(i.user_id)))
ON CONFLICT (id) DO UPDATE SET
    user_id = excluded.user_id, goal_id = excluded.goal_id, kind = excluded.kind, focus = excluded.focus,
    status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at,
    paused_at = excluded.paused_at, planned_seconds = excluded.planned_seconds,
    focus_seconds = excluded.focus_seconds, category = excluded.category, tags = excluded.tags,
    rating = excluded.rating, updated_at = excluded.updated_at, digest = excluded.digest
WHERE ROW (t.*) IS DISTINCT FROM ROW (excluded.*)

-- name: delete_users
-- Accounts that the dashboard no longer has.
DELETE FROM service.users WHERE id = ANY ($1::text[])

-- name: delete_goals
-- Goals that the dashboard no longer has.
DELETE FROM service.goals WHERE id = ANY ($1::text[])

-- name: delete_timer_sessions
-- Sessions that the dashboard no longer has.
DELETE FROM service.timer_sessions WHERE id = ANY ($1::text[])

-- name: set_loading
-- Whether this transaction is part of a first load, which marks days as stale only at its end.
SELECT set_config('service.loading', $1, true)

-- name: mark_all_users
-- After a first load all totals since the first signup are stale; after a later load all figures are.
WITH periods AS (
    INSERT INTO service.stale_period (statistic, period)
    SELECT statistic, period FROM service.rollup WHERE statistic IN ('daily', 'weekly', 'monthly', 'behaviour')
    ON CONFLICT DO NOTHING
)
INSERT INTO service.stale_day AS t (user_id, local_day, onward)
SELECT a.id, a.day, true
FROM (SELECT id, service.counts_from(id, created_at) AS day FROM service.users) AS a WHERE a.day IS NOT NULL
ON CONFLICT (user_id, local_day) DO UPDATE SET onward = true

-- name: mark_all_goals
-- After a load every day on which a goal was created or completed is stale, and every day that has a rollup.
INSERT INTO service.stale_day AS t (user_id, local_day)
SELECT user_id, local_date FROM service.user_day
UNION
SELECT g.user_id, service.local_time(x.at, k)::date
FROM service.goals AS g
CROSS JOIN LATERAL (VALUES (g.created_at), (g.completed_at)) AS x (at)
JOIN service.zone_span AS z ON z.user_id = g.user_id AND x.at >= z.since AND x.at < z.until
JOIN service.zone AS k ON k.name = z.timezone
ON CONFLICT (user_id, local_day) DO UPDATE SET onward = t.onward

-- name: mark_all_timer_sessions
-- After a load every local day on which a session started is stale, and every day that has a rollup; and all hours.
WITH hours AS (INSERT INTO service.changed_hour VALUES ('epoch'))
INSERT INTO service.stale_day AS t (user_id, local_day)
SELECT user_id, local_date FROM service.user_day
UNION
SELECT s.user_id, service.local_time(s.started_at, k)::date
FROM service.timer_sessions AS s
JOIN service.zone_span AS z ON z.user_id = s.user_id AND s.started_at >= z.since AND s.started_at < z.until
JOIN service.zone AS k ON k.name = z.timezone
ON CONFLICT (user_id, local_day) DO UPDATE SET onward = t.onward
