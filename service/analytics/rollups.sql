-- name: lock
-- One writer of rollups at a time, because derived periods depend on rebuilt days.
SELECT pg_advisory_xact_lock(hashtext('service.rollups'))

-- name: plan_anew
-- Plan each statement of this transaction for its own rows: a plan that is kept may be one for tables that were empty.
SET LOCAL plan_cache_mode = force_custom_plan

-- name: take_stale_days
-- The next stale days in key order, each once; those that a sync is marking right now are left for the next step.
WITH taken AS (
    DELETE FROM service.stale_day WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM service.stale_day ORDER BY user_id, local_day LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING user_id, local_day, onward
)
SELECT array_agg(user_id ORDER BY user_id, local_day) AS users, array_agg(local_day ORDER BY user_id, local_day) AS days,
       min(local_day) FILTER (WHERE onward) AS onward
FROM taken

-- name: rebuild_days
-- Rebuild the rollups of the days ($1 users, $2 local dates, in key order, each once) from sessions and goals. Returns
-- how many days changed, of which users and on which dates.
-- A session belongs to the date of its start in the zone that was valid then. Its focus is spread evenly over the
-- time it ran (an abandoned one: over the time it is credited), split at the local hour and where the clocks change.
-- A rejected one (its end before its start, or over 24 hours after it) counts only in the daily rejectedSessions.
-- Cumulated seconds are rounded, so that the hours add up to the day exactly. Times within a session are integers of
-- microseconds, and jsonb is parsed from text: exact too, and cheaper than numeric and jsonb_object_agg.
-- Sessions are looked up by ranges of somebody's days: for each day alone it costs more where all are stale, and a
-- range of more than 128 dates could read a long history for two of them.
-- OFFSET 0 forces index lookups: the planner does not know how few rows a range has.
WITH keys AS MATERIALIZED (
    SELECT user_id, local_date, key::int, local_date - '1970-01-01'::date AS day
    FROM unnest($1::text[], $2::date[]) WITH ORDINALITY AS k (user_id, local_date, key)
), ranges AS MATERIALIZED (
    SELECT user_id, min(local_date) AS first, max(local_date) AS last FROM keys GROUP BY user_id, day / 128
), zones AS MATERIALIZED (
    SELECT user_id, timezone, since, lead(since) OVER (PARTITION BY user_id ORDER BY since) AS until
    FROM service.user_zone WHERE user_id = ANY ($1)
), periods AS MATERIALIZED (
    SELECT z.name AS zone, p.utc_from, p.utc_to, extract(epoch FROM p.ahead)::int AS ahead
    FROM (SELECT min(first)::timestamp AT TIME ZONE 'UTC' - interval '1 day' AS since,
                 max(last)::timestamp AT TIME ZONE 'UTC' + interval '2 days' AS until FROM ranges) AS b
    CROSS JOIN service.zone AS z CROSS JOIN LATERAL service.zone_periods(z, b.since, b.until) AS p
    WHERE z.name IN (SELECT timezone FROM zones)
), homes AS MATERIALIZED (  -- where somebody lived during a range, from one change of the clocks to the next
    SELECT r.user_id, p.zone, p.ahead, p.utc_to,
           greatest(u.since, p.utc_from, r.first::timestamp AT TIME ZONE 'UTC' - make_interval(secs => p.ahead)) AS since,
           least(u.until, p.utc_to, (r.last + 1)::timestamp AT TIME ZONE 'UTC' - make_interval(secs => p.ahead)) AS until
    FROM ranges AS r JOIN zones AS u USING (user_id) JOIN periods AS p ON p.zone = u.timezone
), sessions AS MATERIALIZED (  -- clock: microseconds after local midnight; length: until the end
    SELECT k.key, s.zone, s.ahead, s.utc_to, s.started_at, s.ended_at, s.kind, s.focus, s.status, s.tags, s.goal_id, s.rating,
           s.credited, ((s.local - s.day * 86400.0::float8) * 1e6)::int8 AS clock,
           coalesce((date_part('epoch', s.ended_at - s.started_at) * 1e6)::int8, 0) AS length
    FROM (SELECT h.user_id, h.zone, h.ahead, h.utc_to, t.*, floor(t.local / 86400)::int AS day
          FROM homes AS h
          CROSS JOIN LATERAL (
              SELECT date_part('epoch', t.started_at) + h.ahead AS local, t.started_at, t.kind, t.focus, t.status, t.tags,
                     t.goal_id, t.rating,
                     CASE WHEN t.focus AND t.status IN ('completed', 'abandoned') THEN t.focus_seconds ELSE 0 END AS credited,
                     CASE WHEN t.status = 'abandoned' THEN t.started_at + make_interval(secs => t.focus_seconds)
                          ELSE greatest(t.ended_at, t.started_at) END AS ended_at
              FROM service.timer_sessions AS t
              WHERE t.user_id = h.user_id AND t.started_at >= h.since AND t.started_at < h.until
                AND t.status <> 'rejected' OFFSET 0) AS t) AS s
    JOIN keys AS k ON k.user_id = s.user_id AND k.day = s.day
), counts AS (
    SELECT key, sum(started)::int AS started, sum(seconds)::int AS focus_seconds, sum(completed)::int AS completed,
           sum(cancelled)::int AS cancelled, sum(abandoned)::int AS abandoned, sum(breaks)::int AS breaks,
           sum(tagged)::int AS tagged, sum(linked)::int AS linked, sum(rated)::int AS rated, sum(rating_sum)::int AS rating_sum,
           ('{' || string_agg(to_json(kind) || ':[' || started || ',' || ended || ',' || seconds || ']', ',') || '}')::jsonb AS kinds
    FROM (SELECT key, kind, count(*)::int AS started, sum(credited)::int AS seconds,
                 (count(*) FILTER (WHERE status = 'completed'))::int AS ended,
                 (count(*) FILTER (WHERE focus AND status = 'completed'))::int AS completed,
                 (count(*) FILTER (WHERE focus AND status = 'cancelled'))::int AS cancelled,
                 (count(*) FILTER (WHERE focus AND status = 'abandoned'))::int AS abandoned,
                 (count(*) FILTER (WHERE NOT focus))::int AS breaks, (count(*) FILTER (WHERE tags <> '{}'))::int AS tagged,
                 count(goal_id)::int AS linked, count(rating)::int AS rated, coalesce(sum(rating), 0)::int AS rating_sum
          FROM sessions GROUP BY key, kind) AS kinds
    GROUP BY key
), stretches AS (  -- of sessions, from one change of the clocks to the next; lo, hi: microseconds after the start
    SELECT key, credited, length, clock, 0::int8 AS lo,
           CASE WHEN ended_at > utc_to THEN (date_part('epoch', utc_to - started_at) * 1e6)::int8 ELSE length END AS hi
    FROM sessions WHERE credited > 0
    UNION ALL
    SELECT s.key, s.credited, s.length, s.clock + ((date_part('epoch', p.ahead)::int8 - s.ahead) + 86400) * 1000000,
           (date_part('epoch', p.utc_from - s.started_at) * 1e6)::int8,
           (date_part('epoch', least(p.utc_to, s.ended_at) - s.started_at) * 1e6)::int8
    FROM sessions AS s JOIN service.zone AS z ON z.name = s.zone
    CROSS JOIN LATERAL service.zone_periods(z, s.utc_to, s.ended_at) AS p
    WHERE s.credited > 0 AND s.ended_at > s.utc_to AND p.utc_from < s.ended_at
), pieces AS (
    SELECT key, credited, length, lo, hi, clock,
           generate_series((clock + lo) / 3600000000, greatest(clock + hi - 1, clock + lo) / 3600000000) AS hour
    FROM stretches
), hours AS (
    SELECT key, ('{' || string_agg('"' || hour || '":' || seconds, ',') || '}')::jsonb AS hours
    FROM (SELECT key, (hour % 24)::int AS hour,
                 sum(CASE WHEN length = 0 THEN credited ELSE
                     (2 * credited * least(hi, (hour + 1) * 3600000000 - clock) + length) / (2 * length)
                   - (2 * credited * greatest(lo, hour * 3600000000 - clock) + length) / (2 * length) END::int) AS seconds
          FROM pieces GROUP BY 1, 2) AS totals
    WHERE seconds > 0 GROUP BY key
), goals AS (
    SELECT k.key, (count(*) FILTER (WHERE t.created))::int AS created, (count(*) FILTER (WHERE NOT t.created))::int AS completed
    FROM homes AS h JOIN service.goals AS g ON g.user_id = h.user_id
    CROSS JOIN LATERAL (SELECT g.created_at AS at, true AS created
                        UNION ALL SELECT g.completed_at, false WHERE NOT g.open) AS t
    JOIN keys AS k ON k.user_id = h.user_id AND k.day = floor((date_part('epoch', t.at) + h.ahead) / 86400)::int
    WHERE t.at >= h.since AND t.at < h.until
    GROUP BY k.key
), fresh AS MATERIALIZED (
    SELECT k.user_id, k.local_date, coalesce(c.started, 0) AS started, coalesce(c.focus_seconds, 0) AS focus_seconds,
           coalesce(c.completed, 0) AS completed, coalesce(c.cancelled, 0) AS cancelled,
           coalesce(c.abandoned, 0) AS abandoned, coalesce(c.breaks, 0) AS breaks, coalesce(c.tagged, 0) AS tagged,
           coalesce(c.linked, 0) AS linked, coalesce(c.rated, 0) AS rated, coalesce(c.rating_sum, 0) AS rating_sum,
           coalesce(g.created, 0) AS goals_created, coalesce(g.completed, 0) AS goals_completed,
           coalesce(c.kinds, '{}') AS kinds, coalesce(h.hours, '{}') AS hours
    FROM keys AS k LEFT JOIN counts AS c USING (key) LEFT JOIN hours AS h USING (key) LEFT JOIN goals AS g USING (key)
    WHERE c.key IS NOT NULL OR g.key IS NOT NULL
), emptied AS (
    DELETE FROM service.user_day WHERE ctid = ANY (ARRAY(
        SELECT d.ctid
        FROM (SELECT user_id, local_date FROM keys EXCEPT SELECT user_id, local_date FROM fresh) AS k
        CROSS JOIN LATERAL (SELECT ctid FROM service.user_day AS t
                            WHERE t.user_id = k.user_id AND t.local_date = k.local_date OFFSET 0) AS d))
    RETURNING user_id, local_date
), written AS (
    INSERT INTO service.user_day AS t SELECT * FROM fresh
    ON CONFLICT (user_id, local_date) DO UPDATE SET
        started = excluded.started, focus_seconds = excluded.focus_seconds, completed = excluded.completed,
        cancelled = excluded.cancelled, abandoned = excluded.abandoned, breaks = excluded.breaks,
        tagged = excluded.tagged, linked = excluded.linked, rated = excluded.rated, rating_sum = excluded.rating_sum,
        goals_created = excluded.goals_created, goals_completed = excluded.goals_completed,
        kinds = excluded.kinds, hours = excluded.hours
    WHERE ROW (t.*) IS DISTINCT FROM ROW (excluded.*)
    RETURNING t.user_id, t.local_date
)
SELECT count(*) AS days, coalesce(array_agg(DISTINCT user_id), '{}') AS users, coalesce(array_agg(DISTINCT local_date), '{}') AS dates
FROM (SELECT * FROM emptied UNION ALL SELECT * FROM written) AS changed

-- name: refresh_spans
-- First and last active dates of these users ($1, each once), from their days. Returns the earliest date from which
-- cohorts changed: of those whose first date moved, the earlier of the old and the new one.
WITH requested AS MATERIALIZED (
    SELECT unnest($1::text[]) AS user_id
), found AS MATERIALIZED (
    SELECT r.user_id, f.local_date AS first_date, l.local_date AS last_date
    FROM requested AS r
    LEFT JOIN LATERAL (SELECT local_date FROM service.user_day AS d WHERE d.user_id = r.user_id AND d.started > 0
                       ORDER BY local_date LIMIT 1) AS f ON true
    LEFT JOIN LATERAL (SELECT local_date FROM service.user_day AS d WHERE d.user_id = r.user_id AND d.started > 0
                       ORDER BY local_date DESC LIMIT 1) AS l ON true
), former AS (
    SELECT s.* FROM requested AS r CROSS JOIN LATERAL (
        SELECT * FROM service.user_span AS s WHERE s.user_id = r.user_id OFFSET 0) AS s
), deleted AS (
    DELETE FROM service.user_span AS s USING found AS f WHERE s.user_id = f.user_id AND f.first_date IS NULL
), written AS (
    INSERT INTO service.user_span AS t SELECT * FROM found WHERE first_date IS NOT NULL
    ON CONFLICT (user_id) DO UPDATE SET first_date = excluded.first_date, last_date = excluded.last_date
    WHERE (t.first_date, t.last_date) IS DISTINCT FROM (excluded.first_date, excluded.last_date)
)
SELECT min(least(o.first_date, n.first_date)) FROM former AS o RIGHT JOIN found AS n USING (user_id)
WHERE o.first_date IS DISTINCT FROM n.first_date

-- name: analyze_days
-- Statistics for the planner, which the server itself would renew a minute later.
ANALYZE service.user_day, service.user_span

-- name: mark_periods
-- Mark periods as stale, up to the watermark: $1 a statistic, $2 and $3 the first and last period of each span
-- (wall-clock starts), $4 the interval between periods. A span that begins before the first derived period is extended
-- up to it, so that no period between is missing.
WITH oldest AS (
    SELECT min(period) AS period FROM service.rollup WHERE statistic = $1
)
INSERT INTO service.stale_period (statistic, period)
SELECT DISTINCT $1::text, p.period
FROM oldest CROSS JOIN unnest($2::timestamp[], $3::timestamp[]) AS s (lo, hi)
JOIN service.watermark AS w ON w.statistic = $1 AND w.through IS NOT NULL
CROSS JOIN LATERAL generate_series(s.lo, least(greatest(s.hi, oldest.period), w.through), $4::text::interval) AS p (period)
ON CONFLICT DO NOTHING

-- name: existing_periods
-- The derived periods of a statistic from $2 to $3.
SELECT period FROM service.rollup WHERE statistic = $1 AND period BETWEEN $2 AND $3 ORDER BY period

-- name: mark_all_stale
-- Mark these periods as stale; those after the watermark will be derived anyway.
INSERT INTO service.stale_period (statistic, period)
SELECT $1, p FROM unnest($2::timestamp[]) AS p JOIN service.watermark AS w ON w.statistic = $1 AND w.through >= p
ON CONFLICT DO NOTHING

-- name: stale_periods
-- The oldest stale periods of a statistic.
SELECT period FROM service.stale_period WHERE statistic = $1 ORDER BY period LIMIT $2

-- name: delete_stale_periods
-- These periods have been derived again.
DELETE FROM service.stale_period WHERE statistic = $1 AND period = ANY ($2::timestamp[])

-- name: mark_provisional
-- Mark provisional periods that begin no later than $2: their last date is over in every zone now.
INSERT INTO service.stale_period (statistic, period)
SELECT statistic, period FROM service.rollup WHERE statistic = $1 AND NOT final AND NOT frozen AND period <= $2
ON CONFLICT DO NOTHING

-- name: unmark_frozen
-- Frozen periods are not derived again.
DELETE FROM service.stale_period AS s USING service.rollup AS r
WHERE s.statistic = $1 AND r.statistic = $1 AND r.period = s.period AND r.frozen

-- name: watermark
-- How far a statistic has been derived.
SELECT through, working FROM service.watermark WHERE statistic = $1

-- name: begin_batch
-- A batch up to $2 has started.
INSERT INTO service.watermark (statistic, working) VALUES ($1, $2)
ON CONFLICT (statistic) DO UPDATE SET working = excluded.working, updated_at = service.now()

-- name: undo_batch
-- Delete periods after the watermark: they are of a batch that did not finish.
DELETE FROM service.rollup AS r USING service.watermark AS w
WHERE r.statistic = $1 AND w.statistic = $1 AND r.period > coalesce(w.through, '-infinity')

-- name: end_batch
-- The batch is finished, in the same transaction as its rows.
UPDATE service.watermark SET through = $2, working = NULL, updated_at = service.now() WHERE statistic = $1

-- name: store
-- Store figures of periods; changed ones get a new revision, and the old figures are kept. Returns how many are new and
-- how many were revised.
WITH fresh AS (
    SELECT * FROM unnest($2::timestamp[], $3::text[], $4::boolean[]) AS f (period, figures, final)
), archived AS (
    INSERT INTO service.rollup_revision (statistic, period, revision, figures, computed_at)
    SELECT r.statistic, r.period, r.revision, r.figures, r.computed_at
    FROM service.rollup AS r JOIN fresh AS f ON r.statistic = $1 AND r.period = f.period
    WHERE r.figures IS DISTINCT FROM f.figures::jsonb AND NOT r.frozen
), written AS (
    INSERT INTO service.rollup AS t (statistic, period, figures, final)
    SELECT $1, period, figures::jsonb, final FROM fresh
    ON CONFLICT (statistic, period) DO UPDATE SET
        figures = excluded.figures, final = excluded.final, computed_at = excluded.computed_at,
        revision = t.revision + (t.figures IS DISTINCT FROM excluded.figures)::int
    WHERE (t.figures, t.final) IS DISTINCT FROM (excluded.figures, excluded.final) AND NOT t.frozen
    RETURNING xmax = 0 AS new
)
SELECT count(*) FILTER (WHERE new) AS new, count(*) FILTER (WHERE NOT new) AS revised FROM written

-- name: daily
-- Service-zone days ($1 dates, $2 the zone). Sessions and goals count by the service day of their start, creation and
-- completion. A user is active on a service day with a session start, a goal created or one completed (an edit leaves
-- no history). DAU, WAU and MAU count local dates instead: distinct users who opened a session (started one that is not
-- rejected) on a date in [d, d], [d-6, d], [d-29, d]; each such date covers k dates, merged per user, and the edges of
-- the merged spans are summed up. Lengths: of completed focus sessions, percentiles between the two nearest (type 7).
WITH days AS MATERIALIZED (
    SELECT unnest($1::date[]) AS day
), bounds AS MATERIALIZED (
    SELECT min(day) AS lo, max(day) AS hi FROM days
), spans AS MATERIALIZED (  -- of the service zone, from one change of the clocks to the next
    SELECT p.ahead, greatest(p.utc_from, b.lo::timestamp AT TIME ZONE 'UTC' - p.ahead) AS since,
           least(p.utc_to, (b.hi + 1)::timestamp AT TIME ZONE 'UTC' - p.ahead) AS until
    FROM bounds AS b JOIN service.zone AS z ON z.name = $2
    CROSS JOIN LATERAL service.zone_periods(z, b.lo::timestamp AT TIME ZONE 'UTC' - interval '1 day',
                                            b.hi::timestamp AT TIME ZONE 'UTC' + interval '2 days') AS p
), sessions AS MATERIALIZED (
    SELECT (s.started_at AT TIME ZONE 'UTC' + b.ahead)::date AS day, s.user_id, s.focus, s.status, s.focus_seconds
    FROM spans AS b JOIN service.timer_sessions AS s ON s.started_at >= b.since AND s.started_at < b.until
    WHERE s.user_id IN (SELECT user_id FROM service.user_zone)
), rejected AS (
    SELECT day, count(*) AS sessions FROM sessions WHERE status = 'rejected' GROUP BY day
), goals AS MATERIALIZED (
    SELECT (g.created_at AT TIME ZONE 'UTC' + b.ahead)::date AS day, g.user_id, true AS created,
           g.completed_at IS NOT NULL AND NOT g.open AS completed
    FROM spans AS b JOIN service.goals AS g ON g.created_at >= b.since AND g.created_at < b.until
    WHERE g.user_id IN (SELECT user_id FROM service.user_zone)
    UNION ALL
    SELECT (g.completed_at AT TIME ZONE 'UTC' + b.ahead)::date, g.user_id, false, true
    FROM spans AS b JOIN service.goals AS g ON g.completed_at >= b.since AND g.completed_at < b.until AND NOT g.open
    WHERE g.user_id IN (SELECT user_id FROM service.user_zone)
), active AS (
    SELECT day, count(DISTINCT user_id) AS users
    FROM (SELECT day, user_id FROM sessions WHERE status <> 'rejected' UNION ALL SELECT day, user_id FROM goals) AS activities GROUP BY day
), timer AS (
    SELECT day, count(*) FILTER (WHERE focus AND status = 'completed') AS completed,
           count(*) FILTER (WHERE focus AND status IN ('cancelled', 'abandoned')) AS stopped,
           coalesce(sum(focus_seconds) FILTER (WHERE focus AND status IN ('completed', 'abandoned')), 0) AS seconds,
           coalesce(sum(focus_seconds) FILTER (WHERE focus AND status = 'completed'), 0) AS completed_seconds,
           percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY focus_seconds)
               FILTER (WHERE focus AND status = 'completed') AS lengths
    FROM sessions GROUP BY day
), aims AS (
    SELECT day, count(*) FILTER (WHERE created) AS created, count(*) FILTER (WHERE NOT created) AS completed,
           count(*) FILTER (WHERE created AND completed) AS reached
    FROM goals GROUP BY day
), accounts AS (
    SELECT (u.created_at AT TIME ZONE 'UTC' + b.ahead)::date AS day, count(*) AS new
    FROM spans AS b JOIN service.account AS u ON u.created_at >= b.since AND u.created_at < b.until GROUP BY 1
), visits AS MATERIALIZED (
    SELECT d.local_date AS d, lag(d.local_date) OVER dates AS p, lead(d.local_date) OVER dates AS n
    FROM bounds AS b JOIN service.user_day AS d ON d.local_date BETWEEN b.lo - 29 AND b.hi
    WHERE d.started > 0
    WINDOW dates AS (PARTITION BY d.user_id ORDER BY d.local_date)
), edges AS (
    SELECT d AS at, count(*) AS dau,
           count(*) FILTER (WHERE p IS NULL OR d - p >= 7) AS wau, count(*) FILTER (WHERE p IS NULL OR d - p >= 30) AS mau
    FROM visits GROUP BY d
    UNION ALL
    SELECT d + 7, 0, -count(*), 0 FROM visits WHERE n IS NULL OR n - d >= 7 GROUP BY d
    UNION ALL
    SELECT d + 30, 0, 0, -count(*) FROM visits WHERE n IS NULL OR n - d >= 30 GROUP BY d
), reach AS (
    SELECT b.lo - 29 + i AS day, coalesce(e.dau, 0) AS dau, sum(coalesce(e.wau, 0)) OVER upto AS wau,
           sum(coalesce(e.mau, 0)) OVER upto AS mau
    FROM bounds AS b CROSS JOIN LATERAL generate_series(0, b.hi - b.lo + 29) AS i
    LEFT JOIN (SELECT at, sum(dau) AS dau, sum(wau) AS wau, sum(mau) AS mau FROM edges GROUP BY at) AS e
           ON e.at = b.lo - 29 + i
    WINDOW upto AS (ORDER BY b.lo - 29 + i)
)
SELECT d.day::timestamp AS period, jsonb_build_object(
    'date', d.day,
    'activeUsers', coalesce(a.users, 0),
    'newUsers', coalesce(n.new, 0),
    'totalSessions', coalesce(t.completed, 0),
    'focusSeconds', coalesce(t.seconds, 0),
    'totalFocusTime', round(coalesce(t.seconds, 0) / 60.0, 2),
    'completedSeconds', coalesce(t.completed_seconds, 0),
    'averageSessionLength', round(t.completed_seconds / 60.0 / nullif(t.completed, 0), 2),
    'sessionLength', jsonb_build_object('p50', round(t.lengths[1]::numeric / 60, 2), 'p90', round(t.lengths[2]::numeric / 60, 2),
                                        'p99', round(t.lengths[3]::numeric / 60, 2)),
    'sessionCompletionRate', round(t.completed::numeric / nullif(t.completed + t.stopped, 0), 4),
    'sessionsEnded', coalesce(t.completed + t.stopped, 0),
    'rejectedSessions', coalesce(x.sessions, 0),
    'goalsCreated', coalesce(g.created, 0),
    'goalsCompleted', coalesce(g.completed, 0),
    'goalCompletionRate', round(g.reached::numeric / nullif(g.created, 0), 4),
    'goalsCreatedAndReached', coalesce(g.reached, 0),
    'dau', r.dau, 'wau', r.wau, 'mau', r.mau,
    'stickiness', round(r.dau::numeric / nullif(r.mau, 0), 4)) AS figures
FROM days AS d
JOIN reach AS r ON r.day = d.day
LEFT JOIN timer AS t ON t.day = d.day LEFT JOIN active AS a ON a.day = d.day LEFT JOIN rejected AS x ON x.day = d.day
LEFT JOIN aims AS g ON g.day = d.day LEFT JOIN accounts AS n ON n.day = d.day
ORDER BY d.day

-- name: weekly
-- Weeks of seven local dates from Sunday ($1 their Sundays).
-- Lifecycle: new: first ever; returning: active now and the week before; resurrecting: neither; dormant: the week before,
-- not now. retention: of those whose n-th day after their first lies in the week, who was active on that very day.
-- cohorts: per week of the first active date, who was active in this week; size is the whole cohort.
-- usagePatterns: focus seconds by local hour and weekday (0 = Sunday), and the three with the most, ties to the earliest.
WITH weeks AS MATERIALIZED (
    SELECT unnest($1::date[]) AS week
), days AS MATERIALIZED (
    SELECT w.week, d.* FROM weeks AS w JOIN service.user_day AS d ON d.local_date BETWEEN w.week AND w.week + 6
), visits AS MATERIALIZED (  -- weeks in which somebody was active, with their last one before and their next one
    SELECT user_id, week, lag(week) OVER weeks AS former, lead(week) OVER weeks AS following
    FROM (SELECT DISTINCT d.user_id, d.local_date - date_part('dow', d.local_date)::int AS week
          FROM (SELECT min(week) AS lo, max(week) AS hi FROM weeks) AS b
          JOIN service.user_day AS d ON d.local_date BETWEEN b.lo - 7 AND b.hi + 6 AND d.started > 0) AS d
    WINDOW weeks AS (PARTITION BY user_id ORDER BY week)
), people AS MATERIALIZED (
    SELECT v.week, v.former, s.first_date FROM weeks JOIN visits AS v USING (week) JOIN service.user_span AS s USING (user_id)
), lifecycle AS (
    SELECT week, sum(active) AS active, sum(new) AS new, sum("returning") AS returning, sum(resurrecting) AS resurrecting,
           sum(dormant) AS dormant
    FROM (SELECT week, count(*) AS active, count(*) FILTER (WHERE first_date >= week) AS new,
                 count(*) FILTER (WHERE first_date < week AND former = week - 7) AS returning,
                 count(*) FILTER (WHERE first_date < week AND former IS DISTINCT FROM week - 7) AS resurrecting, 0 AS dormant
          FROM people GROUP BY week
          UNION ALL
          SELECT week + 7, 0, 0, 0, 0, count(*) FROM visits WHERE following IS DISTINCT FROM week + 7 GROUP BY week) AS parts
    GROUP BY week
), sums AS (
    SELECT week, sum(completed) AS completed, sum(focus_seconds) AS seconds, sum(goals_created) AS created,
           sum(goals_completed) AS reached, sum(cancelled + abandoned) AS stopped
    FROM days GROUP BY week
), accounts AS (
    SELECT s.day - date_part('dow', s.day)::int AS week, count(*) AS new
    FROM (SELECT min(week)::timestamp AT TIME ZONE 'UTC' AS lo, max(week)::timestamp AT TIME ZONE 'UTC' AS hi FROM weeks) AS b
    JOIN service.account AS u ON u.created_at >= b.lo - interval '2 days' AND u.created_at < b.hi + interval '9 days'
    CROSS JOIN LATERAL service.signup_days(u.id, u.created_at) AS s
    GROUP BY 1
), kinds AS (
    SELECT week, jsonb_object_agg(kind, jsonb_build_object('started', started, 'completed', completed, 'focusSeconds', seconds)) AS stats
    FROM (SELECT week, k.key AS kind, sum((k.value ->> 0)::int) AS started, sum((k.value ->> 1)::int) AS completed,
                 sum((k.value ->> 2)::int) AS seconds
          FROM days CROSS JOIN LATERAL jsonb_each(kinds) AS k GROUP BY week, k.key) AS totals
    GROUP BY week
), weekday_hours AS MATERIALIZED (
    SELECT week, dow, hour, coalesce(seconds, 0) AS seconds
    FROM weeks CROSS JOIN generate_series(0, 6) AS dow CROSS JOIN generate_series(0, 23) AS hour
    LEFT JOIN (SELECT week, local_date - week AS dow, h.key::int AS hour, sum(h.value::int) AS seconds
               FROM days CROSS JOIN LATERAL jsonb_each_text(hours) AS h GROUP BY 1, 2, 3) AS totals
        USING (week, dow, hour)
), hours AS (
    SELECT week, jsonb_agg(seconds ORDER BY hour) AS seconds,
           (array_agg(hour ORDER BY seconds DESC, hour) FILTER (WHERE seconds > 0))[1:3] AS peaks
    FROM (SELECT week, hour, sum(seconds) AS seconds FROM weekday_hours GROUP BY 1, 2) AS totals
    GROUP BY week
), heat AS (
    SELECT week, jsonb_agg(seconds ORDER BY dow) AS seconds
    FROM (SELECT week, dow, jsonb_agg(seconds ORDER BY hour) AS seconds FROM weekday_hours GROUP BY 1, 2) AS rows
    GROUP BY week
), weekdays AS (
    SELECT week, jsonb_agg(coalesce(seconds, 0) ORDER BY dow) AS seconds,
           (array_agg(dow ORDER BY seconds DESC, dow) FILTER (WHERE seconds > 0))[1:3] AS peaks
    FROM weeks CROSS JOIN generate_series(0, 6) AS dow
    LEFT JOIN (SELECT week, local_date - week AS dow, sum(focus_seconds) AS seconds FROM days GROUP BY 1, 2) AS totals
        USING (week, dow)
    GROUP BY week
), returns AS (
    SELECT w.week, n, count(*) AS cohort, count(d.user_id) AS returned
    FROM weeks AS w CROSS JOIN unnest(ARRAY[1, 7, 30]) AS n
    JOIN service.user_span AS s ON s.first_date BETWEEN w.week - n AND w.week + 6 - n
    LEFT JOIN LATERAL (SELECT d.user_id FROM service.user_day AS d
                       WHERE d.user_id = s.user_id AND d.local_date = s.first_date + n AND d.started > 0 OFFSET 0) AS d ON true
    GROUP BY w.week, n
), retention AS (
    SELECT w.week, jsonb_object_agg('d' || n, jsonb_build_object(
               'cohort', coalesce(r.cohort, 0), 'returned', coalesce(r.returned, 0),
               'rate', CASE WHEN r.cohort >= 10 THEN round(r.returned::numeric / r.cohort, 4) END)) AS figures
    FROM weeks AS w CROSS JOIN unnest(ARRAY[1, 7, 30]) AS n LEFT JOIN returns AS r USING (week, n) GROUP BY w.week
), sizes AS MATERIALIZED (
    SELECT first_date - extract(dow FROM first_date)::int AS cohort, count(*) AS size FROM service.user_span GROUP BY 1
), cells AS (
    SELECT week, first_date - extract(dow FROM first_date)::int AS cohort, count(*) AS active FROM people GROUP BY 1, 2
), cohorts AS (
    SELECT w.week, jsonb_agg(jsonb_build_object('cohort', s.cohort, 'n', (w.week - s.cohort) / 7, 'size', s.size,
                                                'active', coalesce(c.active, 0)) ORDER BY s.cohort) AS cells
    FROM weeks AS w JOIN sizes AS s ON s.cohort <= w.week LEFT JOIN cells AS c ON c.week = w.week AND c.cohort = s.cohort
    GROUP BY w.week
)
SELECT w.week::timestamp AS period, jsonb_build_object(
    'weekStart', w.week, 'weekEnd', w.week + 6,
    'activeUsers', coalesce(l.active, 0),
    'newUsers', coalesce(a.new, 0),
    'totalSessions', coalesce(s.completed, 0),
    'focusSeconds', coalesce(s.seconds, 0),
    'totalFocusTime', round(coalesce(s.seconds, 0) / 60.0, 2),
    'goalsCreated', coalesce(s.created, 0),
    'goalsCompleted', coalesce(s.reached, 0),
    'sessionCompletionRate', round(s.completed::numeric / nullif(s.completed + s.stopped, 0), 4),
    'sessionsEnded', coalesce(s.completed + s.stopped, 0),
    'timerTypeStats', coalesce(k.stats, '{}'),
    'usagePatterns', jsonb_build_object('peakHours', coalesce(to_jsonb(h.peaks), '[]'),
                                        'peakDays', coalesce(to_jsonb(d.peaks), '[]'),
                                        'hourlyDistribution', h.seconds, 'dailyDistribution', d.seconds,
                                        'weekdayHours', heat.seconds),
    'lifecycle', jsonb_build_object('new', coalesce(l.new, 0), 'returning', coalesce(l.returning, 0),
                                    'resurrecting', coalesce(l.resurrecting, 0), 'dormant', coalesce(l.dormant, 0)),
    'retentionData', r.figures,
    'cohorts', coalesce(c.cells, '[]')) AS figures
FROM weeks AS w
JOIN hours AS h USING (week) JOIN heat USING (week) JOIN weekdays AS d USING (week) JOIN retention AS r USING (week)
LEFT JOIN lifecycle AS l USING (week) LEFT JOIN sums AS s USING (week) LEFT JOIN accounts AS a USING (week)
LEFT JOIN kinds AS k USING (week) LEFT JOIN cohorts AS c USING (week)
ORDER BY w.week

-- name: monthly
-- Local calendar months ($1 their first dates). Segments of the accounts there are at the end of the month's last date,
-- disjoint, in this order: new (account made in the month), neverStarted (no session opened so far), churned (none in
-- the last 30 days), atRisk (none in the last 14), power (over 20 completed focus sessions in the month), active.
-- Goals by age: those whose 7th, 30th or 90th day after their creation lies in the month, as they stood at its end; neither
-- completed, open nor overdue: given up. Lead time and punctuality: of those completed in the month.
WITH months AS MATERIALIZED (
    SELECT m AS month, (m + interval '1 month')::date - 1 AS last, (m - interval '1 month')::date AS former
    FROM unnest($1::date[]) AS m
), days AS MATERIALIZED (
    SELECT m.month, d.* FROM months AS m JOIN service.user_day AS d ON d.local_date BETWEEN m.month AND m.last
), visits AS MATERIALIZED (  -- months in which somebody was active, with their last one before and their next one
    SELECT user_id, month, completed, lag(month) OVER months AS former, lead(month) OVER months AS following
    FROM (SELECT d.user_id, d.local_date - date_part('day', d.local_date)::int + 1 AS month, sum(d.completed) AS completed
          FROM (SELECT min(former) AS lo, max(last) AS hi FROM months) AS b
          JOIN service.user_day AS d ON d.local_date BETWEEN b.lo AND b.hi AND d.started > 0 GROUP BY 1, 2) AS d
    WINDOW months AS (PARTITION BY user_id ORDER BY month)
), people AS MATERIALIZED (
    SELECT v.month, m.former AS month_before, v.former, v.user_id, s.first_date, v.completed
    FROM months AS m JOIN visits AS v USING (month) JOIN service.user_span AS s USING (user_id)
), lifecycle AS (
    SELECT month, sum(active) AS active, sum(new) AS new, sum("returning") AS returning, sum(resurrecting) AS resurrecting,
           sum(dormant) AS dormant, sum(base) AS base
    FROM (SELECT month, count(*) AS active, count(*) FILTER (WHERE first_date >= month) AS new,
                 count(*) FILTER (WHERE first_date < month AND former = month_before) AS returning,
                 count(*) FILTER (WHERE first_date < month AND former IS DISTINCT FROM month_before) AS resurrecting,
                 0 AS dormant, 0 AS base
          FROM people GROUP BY month
          UNION ALL
          SELECT m.month, 0, 0, 0, 0, count(*) FILTER (WHERE v.following IS DISTINCT FROM m.month), count(*)
          FROM months AS m JOIN visits AS v ON v.month = m.former GROUP BY m.month) AS parts
    GROUP BY month
), sums AS (
    SELECT month, sum(started) AS started, sum(completed) AS completed, sum(focus_seconds) AS seconds,
           sum(goals_created) AS created, sum(goals_completed) AS reached, sum(breaks) AS breaks, sum(tagged) AS tagged,
           sum(linked) AS linked,
           count(DISTINCT user_id) FILTER (WHERE goals_created + goals_completed > 0) AS goal_users,
           count(DISTINCT user_id) FILTER (WHERE breaks > 0) AS break_users,
           count(DISTINCT user_id) FILTER (WHERE tagged > 0) AS tag_users,
           count(DISTINCT user_id) FILTER (WHERE linked > 0) AS link_users
    FROM days GROUP BY month
), recent AS MATERIALIZED (
    SELECT m.month, d.user_id, max(d.local_date) AS last_active
    FROM months AS m JOIN service.user_day AS d ON d.local_date BETWEEN m.last - 30 AND m.last AND d.started > 0
    GROUP BY 1, 2
), accounts AS MATERIALIZED (
    SELECT u.id AS user_id, s.day AS signup, u.left_day
    FROM service.account AS u CROSS JOIN LATERAL service.signup_days(u.id, u.created_at) AS s
), segments AS (
    SELECT month, count(segment) AS total, count(*) FILTER (WHERE signup >= month) AS signups,
           count(*) FILTER (WHERE segment = 'new') AS new,
           count(*) FILTER (WHERE segment = 'neverStarted') AS never_started,
           count(*) FILTER (WHERE segment = 'churned') AS churned, count(*) FILTER (WHERE segment = 'atRisk') AS at_risk,
           count(*) FILTER (WHERE segment = 'power') AS power, count(*) FILTER (WHERE segment = 'active') AS active
    FROM (SELECT m.month, a.signup,
                          CASE WHEN a.left_day <= m.last THEN NULL
                               WHEN a.signup >= m.month THEN 'new'
                               WHEN s.user_id IS NULL THEN 'neverStarted'
                               WHEN r.last_active IS NULL THEN 'churned'
                               WHEN m.last - r.last_active > 14 THEN 'atRisk'
                               WHEN p.completed > 20 THEN 'power' ELSE 'active' END AS segment
          FROM months AS m JOIN accounts AS a ON coalesce(a.signup, '-infinity') <= m.last
          LEFT JOIN service.user_span AS s ON s.user_id = a.user_id AND s.first_date <= m.last
          LEFT JOIN recent AS r ON r.month = m.month AND r.user_id = a.user_id
          LEFT JOIN people AS p ON p.month = m.month AND p.user_id = a.user_id) AS totals
    GROUP BY month
), goals AS MATERIALIZED (  -- created up to 90 days before, with their local dates
    SELECT g.open, service.user_time(g.user_id, g.created_at)::date AS created,
           CASE WHEN NOT g.open THEN service.user_time(g.user_id, g.completed_at)::date END AS completed,
           coalesce(g.due_date, service.user_time(g.user_id, g.due_at)::date) AS due
    FROM (SELECT min(month)::timestamp AT TIME ZONE 'UTC' AS lo, max(last)::timestamp AT TIME ZONE 'UTC' AS hi FROM months) AS b
    JOIN service.goals AS g ON g.created_at >= b.lo - interval '92 days' AND g.created_at < b.hi + interval '3 days'
), ages AS (
    SELECT m.month, n, count(g.created) AS created, count(*) FILTER (WHERE g.completed <= g.created + n) AS completed,
           count(*) FILTER (WHERE (g.open OR g.completed > g.created + n) AND coalesce(g.due > g.created + n, true)) AS open,
           count(*) FILTER (WHERE (g.open OR g.completed > g.created + n) AND g.due <= g.created + n) AS overdue
    FROM months AS m CROSS JOIN unnest(ARRAY[7, 30, 90]) AS n
    LEFT JOIN goals AS g ON g.created BETWEEN m.month - n AND m.last - n GROUP BY m.month, n
), by_age AS (
    SELECT month, jsonb_object_agg('d' || n, jsonb_build_object(
               'created', created, 'completed', completed, 'open', open, 'overdue', overdue,
               'rate', round(completed::numeric / nullif(created, 0), 4))) AS figures
    FROM ages GROUP BY month
), still_open AS (
    SELECT m.month, count(*) AS goals FROM months AS m JOIN goals AS g
        ON g.created BETWEEN m.last - 89 AND m.last AND (g.open OR g.completed > m.last)
    GROUP BY m.month
), reached AS (
    SELECT m.month, count(*) FILTER (WHERE g.due_date IS NOT NULL OR g.due_at IS NOT NULL) AS with_deadline,
           count(*) FILTER (WHERE g.completed <= g.due_date OR g.completed_at <= g.due_at) AS on_time,
           count(g.seconds) AS goals, percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY g.seconds) AS seconds
    FROM months AS m CROSS JOIN LATERAL (
        SELECT a.*, service.user_time(a.user_id, a.completed_at)::date AS completed,
               CASE WHEN a.created_at <= a.completed_at THEN extract(epoch FROM a.completed_at - a.created_at) END AS seconds
        FROM service.goals AS a
        WHERE NOT a.open AND a.completed_at >= m.month::timestamp AT TIME ZONE 'UTC' - interval '1 day'
          AND a.completed_at < m.last::timestamp AT TIME ZONE 'UTC' + interval '3 days' OFFSET 0) AS g
    WHERE g.completed BETWEEN m.month AND m.last GROUP BY m.month
), read AS (
    SELECT m.month, count(*) AS uses, count(DISTINCT n.user_id) AS users
    FROM months AS m JOIN service.notification AS n
      ON n.read_at >= m.month::timestamp AT TIME ZONE 'UTC' AND n.read_at < (m.last + 1)::timestamp AT TIME ZONE 'UTC'
    GROUP BY m.month
), sizes AS MATERIALIZED (
    SELECT date_trunc('month', first_date)::date AS cohort, count(*) AS size FROM service.user_span GROUP BY 1
), cells AS (
    SELECT month, date_trunc('month', first_date)::date AS cohort, count(*) AS active FROM people GROUP BY 1, 2
), cohorts AS (
    SELECT m.month, jsonb_agg(jsonb_build_object(
               'cohort', s.cohort,
               'n', (extract(year FROM age(m.month, s.cohort)) * 12 + extract(month FROM age(m.month, s.cohort)))::int,
               'size', s.size, 'active', coalesce(c.active, 0)) ORDER BY s.cohort) AS cells
    FROM months AS m JOIN sizes AS s ON s.cohort <= m.month
    LEFT JOIN cells AS c ON c.month = m.month AND c.cohort = s.cohort
    GROUP BY m.month
)
SELECT m.month::timestamp AS period, jsonb_build_object(
    'month', to_char(m.month, 'YYYY-MM'),
    'newUsers', coalesce(g.signups, 0),
    'activeUsers', coalesce(l.active, 0),
    'totalSessions', coalesce(s.completed, 0),
    'focusSeconds', coalesce(s.seconds, 0),
    'totalFocusTime', round(coalesce(s.seconds, 0) / 60.0, 2),
    'averageSessionsPerUser', round(s.completed::numeric / nullif(l.active, 0), 2),
    'goalsCreated', coalesce(s.created, 0),
    'goalsCompleted', coalesce(s.reached, 0),
    'goalCompletionByAge', e.figures,
    'goalsOnTime', jsonb_build_object('withDeadline', coalesce(t.with_deadline, 0), 'onTime', coalesce(t.on_time, 0),
        'rate', round(t.on_time::numeric / nullif(t.with_deadline, 0), 4)),
    'goalLeadTime', jsonb_build_object('goals', coalesce(t.goals, 0), 'stillOpen', coalesce(o.goals, 0),
        'p50Days', round(t.seconds[1]::numeric / 86400, 2), 'p90Days', round(t.seconds[2]::numeric / 86400, 2)),
    'totalUsers', coalesce(g.total, 0),
    'userSegments', jsonb_build_object('new', coalesce(g.new, 0), 'neverStarted', coalesce(g.never_started, 0),
        'churned', coalesce(g.churned, 0), 'atRisk', coalesce(g.at_risk, 0), 'power', coalesce(g.power, 0), 'active', coalesce(g.active, 0)),
    'lifecycle', jsonb_build_object('new', coalesce(l.new, 0), 'returning', coalesce(l.returning, 0),
        'resurrecting', coalesce(l.resurrecting, 0), 'dormant', coalesce(l.dormant, 0)),
    'featureUsage', (
        SELECT jsonb_object_agg(feature, jsonb_build_object('measured', true, 'uses', coalesce(uses, 0), 'users', coalesce(users, 0),
                   'adoption', round(coalesce(users, 0)::numeric / nullif(l.active, 0), 4)))
        FROM (VALUES ('timer', s.started, l.active), ('goals', s.created + s.reached, s.goal_users),
                     ('breaks', s.breaks, s.break_users), ('tags', s.tagged, s.tag_users),
                     ('goalLinkedSessions', s.linked, s.link_users),
                     ('notificationsRead', n.uses, n.users)) AS f (feature, uses, users)),
    'churnAnalysis', jsonb_build_object('base', coalesce(l.base, 0), 'churned', coalesce(l.dormant, 0),
        'rate', round(l.dormant::numeric / nullif(l.base, 0), 4)),
    'cohorts', coalesce(c.cells, '[]')) AS figures
FROM months AS m
JOIN by_age AS e USING (month) LEFT JOIN reached AS t USING (month) LEFT JOIN still_open AS o USING (month)
LEFT JOIN lifecycle AS l USING (month) LEFT JOIN sums AS s USING (month) LEFT JOIN segments AS g USING (month)
LEFT JOIN read AS n USING (month) LEFT JOIN cohorts AS c USING (month)
ORDER BY m.month

-- name: behaviour
-- Six-hour windows in UTC ($1 their starts, as wall-clock time): sessions that started in them, breaks and goal
-- completions by the hour of their users. Hours of fewer than five users are not shown. OFFSET 0 forces an index
-- lookup per window: a join would compare all windows with all sessions.
WITH windows AS MATERIALIZED (
    SELECT w AS period, w AT TIME ZONE 'UTC' AS since, w AT TIME ZONE 'UTC' + interval '6 hours' AS until
    FROM unnest($1::timestamp[]) AS w
), sessions AS MATERIALIZED (
    SELECT w.period, s.user_id, s.kind, s.focus, s.status, s.focus_seconds, s.rating,
           extract(hour FROM s.local_start)::int AS hour
    FROM windows AS w
    CROSS JOIN LATERAL (
        SELECT * FROM service.local_session AS l
        WHERE l.started_at >= w.since AND l.started_at < w.until AND l.status <> 'rejected' OFFSET 0) AS s
), timer AS (
    SELECT period, count(DISTINCT user_id) AS users, count(*) AS started,
           count(*) FILTER (WHERE focus AND status = 'completed') AS completed,
           count(*) FILTER (WHERE focus AND status IN ('cancelled', 'abandoned')) AS stopped,
           count(*) FILTER (WHERE focus AND status = 'cancelled') AS cancelled,
           coalesce(sum(focus_seconds) FILTER (WHERE focus AND status = 'completed'), 0) AS seconds,
           percentile_cont(ARRAY[0.5, 0.9, 0.99]) WITHIN GROUP (ORDER BY focus_seconds)
               FILTER (WHERE focus AND status = 'completed') AS lengths,
           count(rating) AS rated, sum(rating) AS ratings
    FROM sessions GROUP BY period
), kinds AS (
    SELECT period, jsonb_object_agg(kind, n) AS types
    FROM (SELECT period, kind, count(*) AS n FROM sessions GROUP BY period, kind) AS totals GROUP BY period
), breaks AS (
    SELECT period, jsonb_object_agg(hour, n) AS hours
    FROM (SELECT period, hour, count(*) AS n FROM sessions WHERE NOT focus GROUP BY period, hour) AS totals
    JOIN (SELECT period FROM sessions WHERE NOT focus GROUP BY period HAVING count(DISTINCT user_id) >= 5) AS enough
        USING (period)
    GROUP BY period
), completions AS MATERIALIZED (
    SELECT w.period, g.user_id, extract(hour FROM service.user_time(g.user_id, g.completed_at))::int AS hour
    FROM windows AS w
    CROSS JOIN LATERAL (
        SELECT * FROM service.goals AS a WHERE a.completed_at >= w.since AND a.completed_at < w.until AND NOT a.open
        OFFSET 0) AS g
    WHERE g.user_id IN (SELECT user_id FROM service.user_zone)
), aims AS (
    SELECT period, jsonb_object_agg(hour, n) AS hours
    FROM (SELECT period, hour, count(*) AS n FROM completions GROUP BY period, hour) AS totals
    JOIN (SELECT period FROM completions GROUP BY period HAVING count(DISTINCT user_id) >= 5) AS enough USING (period)
    GROUP BY period
)
SELECT w.period, jsonb_build_object(
    'since', to_char(w.period, 'YYYY-MM-DD"T"HH24:MI"Z"'),
    'users', coalesce(t.users, 0),
    'sessionsStarted', coalesce(t.started, 0),
    'sessionsCompleted', coalesce(t.completed, 0),
    'completedSeconds', coalesce(t.seconds, 0),
    'averageSessionLength', round(t.seconds / 60.0 / nullif(t.completed, 0), 2),
    'sessionLength', jsonb_build_object('p50', round(t.lengths[1]::numeric / 60, 2), 'p90', round(t.lengths[2]::numeric / 60, 2),
                                        'p99', round(t.lengths[3]::numeric / 60, 2)),
    'sessionsEnded', coalesce(t.completed + t.stopped, 0),
    'sessionsCancelled', coalesce(t.cancelled, 0),
    'sessionTypes', coalesce(k.types, '{}'),
    'cancelledRate', round(t.cancelled::numeric / nullif(t.completed + t.stopped, 0), 4),
    'averageRating', round(t.ratings::numeric / nullif(t.rated, 0), 2),
    'ratings', coalesce(t.rated, 0),
    'ratingSum', coalesce(t.ratings, 0),
    'breakHours', b.hours,
    'goalCompletionHours', a.hours) AS figures
FROM windows AS w
LEFT JOIN timer AS t USING (period) LEFT JOIN kinds AS k USING (period)
LEFT JOIN breaks AS b USING (period) LEFT JOIN aims AS a USING (period)
ORDER BY w.period

-- name: first_date
-- The earliest date of any account, goal or session, in any zone. (A local date may begin two dates earlier elsewhere:
-- 00:00 at +14 is 23:00 at -11.)
SELECT least((SELECT min(local_date) FROM service.user_day),
             (SELECT min(created_at AT TIME ZONE 'UTC')::date FROM service.account)) - 2

-- name: now
-- The database's clock.
SELECT service.now()
