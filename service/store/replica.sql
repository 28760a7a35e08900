-- name: incoming_users
-- A landing place for COPY, emptied at each commit; jsonb lands as text because COPY is binary.
CREATE TEMP TABLE IF NOT EXISTS incoming_users ON COMMIT DELETE ROWS AS
SELECT id, name, email, timezone, timezone_valid, locale, active, preferences::text AS preferences,
       created_at, last_login_at, updated_at
FROM service.users WITH NO DATA

-- name: incoming_goals
-- A landing place for COPY, emptied at each commit.
CREATE TEMP TABLE IF NOT EXISTS incoming_goals ON COMMIT DELETE ROWS AS
SELECT * FROM service.goals WITH NO DATA

-- name: incoming_timer_sessions
-- A landing place for COPY, emptied at each commit.
CREATE TEMP TABLE IF NOT EXISTS incoming_timer_sessions ON COMMIT DELETE ROWS AS
SELECT * FROM service.timer_sessions WITH NO DATA

-- name: upsert_users
-- Newer wins; a stored time that lies in the future (a wrong clock once) never blocks later edits.
INSERT INTO service.users AS t
       (id, name, email, timezone, timezone_valid, locale, active, preferences, created_at, last_login_at, updated_at)
SELECT id, name, email, timezone, timezone_valid, locale, active, preferences::jsonb, created_at, last_login_at, updated_at
FROM incoming_users
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, email = excluded.email, timezone = excluded.timezone,
    timezone_valid = excluded.timezone_valid, locale = excluded.locale, active = excluded.active,
    preferences = excluded.preferences, created_at = excluded.created_at,
    last_login_at = excluded.last_login_at, updated_at = excluded.updated_at
WHERE (excluded.updated_at IS NULL OR t.updated_at IS NULL
       OR excluded.updated_at >= least(t.updated_at, service.now()))
  AND ROW (t.*) IS DISTINCT FROM ROW (excluded.*)

-- name: upsert_goals
-- Newer wins; the days on which a changed goal was or is created or completed become stale.
WITH before AS (
    SELECT g.id, g.user_id, g.created_at, g.completed_at FROM service.goals g JOIN incoming_goals i USING (id)
), written AS (
    INSERT INTO service.goals AS t
           (id, user_id, title, category, open, priority, target_value, current_value, unit, progress,
            due_date, due_at, created_at, completed_at, updated_at)
    SELECT id, user_id, title, category, open, priority, target_value, current_value, unit, progress,
           due_date, due_at, created_at, completed_at, updated_at
    FROM incoming_goals
    ON CONFLICT (id) DO UPDATE SET
        user_id = excluded.user_id, title = excluded.title, category = excluded.category, open = excluded.open,
        priority = excluded.priority, target_value = excluded.target_value,
        current_value = excluded.current_value, unit = excluded.unit, progress = excluded.progress,
        due_date = excluded.due_date, due_at = excluded.due_at, created_at = excluded.created_at,
        completed_at = excluded.completed_at, updated_at = excluded.updated_at
    WHERE (excluded.updated_at IS NULL OR t.updated_at IS NULL
           OR excluded.updated_at >= least(t.updated_at, service.now()))
      AND ROW (t.*) IS DISTINCT FROM ROW (excluded.*)
    RETURNING id, user_id, created_at, completed_at
), touched AS (
    SELECT user_id, created_at AS at FROM written
    UNION SELECT user_id, completed_at FROM written
    UNION SELECT b.user_id, b.created_at FROM before b JOIN written USING (id)
    UNION SELECT b.user_id, b.completed_at FROM before b JOIN written USING (id)
), marked AS (
    INSERT INTO service.stale_day (user_id, local_day)
    SELECT DISTINCT d.user_id, (d.at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
    FROM touched d LEFT JOIN service.users u ON u.id = d.user_id
    WHERE d.at IS NOT NULL AND $1
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM written

-- name: upsert_timer_sessions
-- Newer wins; the local days on which a changed session started, before and after the change, become stale.
WITH before AS (
    SELECT s.id, s.user_id, s.started_at FROM service.timer_sessions s JOIN incoming_timer_sessions i USING (id)
), written AS (
    INSERT INTO service.timer_sessions AS t
           (id, user_id, goal_id, kind, focus, status, started_at, ended_at, paused_at, planned_seconds,
            focus_seconds, category, tags, rating, updated_at)
    SELECT id, user_id, goal_id, kind, focus, status, started_at, ended_at, paused_at, planned_seconds,
           focus_seconds, category, tags, rating, updated_at
    FROM incoming_timer_sessions
    ON CONFLICT (id) DO UPDATE SET
        user_id = excluded.user_id, goal_id = excluded.goal_id, kind = excluded.kind, focus = excluded.focus,
        status = excluded.status, started_at = excluded.started_at, ended_at = excluded.ended_at,
        paused_at = excluded.paused_at, planned_seconds = excluded.planned_seconds,
        focus_seconds = excluded.focus_seconds, category = excluded.category, tags = excluded.tags,
        rating = excluded.rating, updated_at = excluded.updated_at
    WHERE (excluded.updated_at IS NULL OR t.updated_at IS NULL
           OR excluded.updated_at >= least(t.updated_at, service.now()))
      AND ROW (t.*) IS DISTINCT FROM ROW (excluded.*)
    RETURNING id, user_id, started_at
), touched AS (
    SELECT user_id, started_at AS at FROM written
    UNION SELECT b.user_id, b.started_at FROM before b JOIN written USING (id)
), marked AS (
    INSERT INTO service.stale_day (user_id, local_day)
    SELECT DISTINCT d.user_id, (d.at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
    FROM touched d LEFT JOIN service.users u ON u.id = d.user_id
    WHERE $1
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM written

-- name: delete_users
-- Accounts that the dashboard no longer has.
DELETE FROM service.users WHERE id = ANY ($1::text[])

-- name: delete_goals
-- Goals that the dashboard no longer has; their days become stale.
WITH gone AS (
    DELETE FROM service.goals WHERE id = ANY ($1::text[]) RETURNING user_id, created_at, completed_at
), touched AS (
    SELECT user_id, created_at AS at FROM gone UNION SELECT user_id, completed_at FROM gone
)
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT d.user_id, (d.at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
FROM touched d LEFT JOIN service.users u ON u.id = d.user_id
WHERE d.at IS NOT NULL
ON CONFLICT DO NOTHING

-- name: delete_timer_sessions
-- Sessions that the dashboard no longer has; their days become stale.
WITH gone AS (
    DELETE FROM service.timer_sessions WHERE id = ANY ($1::text[]) RETURNING user_id, started_at
)
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT d.user_id, (d.started_at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
FROM gone d LEFT JOIN service.users u ON u.id = d.user_id
ON CONFLICT DO NOTHING

-- name: mark_all_goal_days
-- After a first load every day on which a goal was created or completed is stale.
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT g.user_id, (x.at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
FROM service.goals g
CROSS JOIN LATERAL (VALUES (g.created_at), (g.completed_at)) x (at)
LEFT JOIN service.users u ON u.id = g.user_id
WHERE x.at IS NOT NULL
ON CONFLICT DO NOTHING

-- name: mark_all_session_days
-- After a first load every local day on which a session started is stale.
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT s.user_id, (s.started_at AT TIME ZONE coalesce(u.timezone, 'UTC'))::date
FROM service.timer_sessions s LEFT JOIN service.users u ON u.id = s.user_id
ON CONFLICT DO NOTHING
