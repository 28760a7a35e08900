-- name: state
-- The detector's state of a series, locked until the end of the step, and its first point.
SELECT state, through, zone, (SELECT min(at) FROM service.series_point WHERE series = $1) AS first
FROM service.series WHERE name = $1 FOR UPDATE

-- name: save
-- Store the detector's state of a series.
INSERT INTO service.series (name, state, through, zone) VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, through = excluded.through, zone = excluded.zone

-- name: snapshot
-- The last stored state of a series before $2, with the anomaly that was open then.
SELECT through, state, anomaly FROM service.series_snapshot WHERE series = $1 AND through < $2 ORDER BY through DESC LIMIT 1

-- name: drop_snapshots
-- States after points that are judged again ($2: from here on), and old ones: of the last 14 days before $3 all are kept,
-- of the 13 months before it the first of each month.
DELETE FROM service.series_snapshot
WHERE series = $1 AND (through >= $2 OR through < $3::timestamptz - interval '13 months' OR through <= $3::timestamptz - interval '14 days'
                       AND extract(day FROM through AT TIME ZONE 'UTC') <> 1)

-- name: save_snapshot
-- Store a state after a point.
INSERT INTO service.series_snapshot (series, through, state, anomaly) VALUES ($1, $2, $3, $4)

-- name: points
-- Store judged points.
INSERT INTO service.series_point (series, at, value, expected, low, high, score, provisional, holiday)
SELECT $1, * FROM unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::float8[], $8::boolean[],
                           $9::text[])
ON CONFLICT (series, at) DO UPDATE SET value = excluded.value, expected = excluded.expected, low = excluded.low,
                                       high = excluded.high, score = excluded.score, provisional = excluded.provisional,
                                       holiday = excluded.holiday

-- name: open
-- The open anomaly of a series.
SELECT * FROM service.anomaly WHERE series = $1 AND closed_at IS NULL

-- name: withdraw
-- Anomalies of points that were judged again ($2: from here on) and that do not hold any more ($3: those that do), and an
-- open one that does not.
UPDATE service.anomaly SET withdrawn_at = service.now(), closed_at = coalesce(closed_at, service.now()),
                           explanation = explanation || '; withdrawn: it does not hold for the revised figures'
WHERE series = $1 AND withdrawn_at IS NULL AND (since >= $2 OR closed_at IS NULL) AND since <> ALL ($3::timestamptz[])

-- name: anomaly
-- Update the anomaly of a series that began at $2 ($14: it is over), or open one. Returns its number if it is a new one.
WITH known AS (
    UPDATE service.anomaly SET until = $3, severity = $4, direction = $5, value = $6, expected = $7, low = $8, high = $9,
        score = $10, explanation = $11, calm = $12, detail = $13, withdrawn_at = NULL,
        closed_at = CASE WHEN $14::boolean THEN coalesce(closed_at, service.now()) END
    WHERE id = (SELECT max(id) FROM service.anomaly WHERE series = $1 AND since = $2) RETURNING id
)
INSERT INTO service.anomaly (series, since, until, severity, direction, value, expected, low, high, score, explanation,
                             calm, detail, closed_at)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, CASE WHEN $14::boolean THEN service.now() END
WHERE NOT EXISTS (SELECT FROM known)
RETURNING id

-- name: record_places
-- How many users are in which zone, if nobody has told for the month that begins on $1.
INSERT INTO service.user_places (month, timezone, users)
SELECT $1, timezone, count(*) FROM service.zone_span
WHERE until = 'infinity' AND NOT EXISTS (SELECT FROM service.user_places WHERE month = $1)
GROUP BY timezone
ON CONFLICT DO NOTHING

-- name: places
-- How many users were in which zone, by month.
SELECT month, timezone, users FROM service.user_places

-- name: synced_through
-- The copy has every session ($1: everything) that the dashboard had before this; NULL: its first load is not complete.
-- While rows that went missing wait for somebody who confirms that, it is what it was before.
SELECT CASE WHEN bool_and(phase = 'live') AND bool_or(collection = 'timer_sessions')
            THEN min(least(fresh_at, coalesce(lost_since, 'infinity'))) END
FROM service.sync_state WHERE $1::boolean OR collection = 'timer_sessions'

-- name: hourly_changes
-- Take what was noted of changed sessions: the hour from which on figures may have changed.
WITH taken AS (DELETE FROM service.changed_hour RETURNING since)
SELECT date_bin('1 hour', min(since), 'epoch') FROM taken

-- name: daily_changes
-- The first service day whose figures are not those that were judged, or have become final since.
SELECT min(r.period AT TIME ZONE 'UTC')
FROM service.rollup AS r
CROSS JOIN (VALUES ('day.sessions', 'totalSessions'), ('day.focusMinutes', 'totalFocusTime'), ('day.activeUsers', 'activeUsers'),
                   ('day.newUsers', 'newUsers'), ('day.goalsCompleted', 'goalsCompleted')) AS k (series, figure)
JOIN service.series AS s ON s.name = k.series AND r.period AT TIME ZONE 'UTC' <= s.through
CROSS JOIN LATERAL (SELECT min(at) AS first FROM service.series_point WHERE series = k.series) AS f
LEFT JOIN service.series_point AS p ON p.series = k.series AND p.at = r.period AT TIME ZONE 'UTC'
WHERE r.statistic = 'daily' AND r.period AT TIME ZONE 'UTC' >= f.first
  AND (p.value IS DISTINCT FROM (r.figures ->> k.figure)::float8 OR p.provisional IS DISTINCT FROM NOT r.final)

-- name: hourly_activity
-- Hours [$1, $2): sessions started, who started one, and the credited focus in minutes. Hours without any are zero.
-- Focus is spread evenly over the time it ran (an abandoned one: over the time it is credited); cumulated seconds are rounded,
-- so that the hours add up to the session exactly. provisional: a session may run on that began within the last four hours.
WITH credited AS (
    SELECT s.started_at, s.focus_seconds AS seconds,
           greatest(s.started_at, CASE WHEN s.ended_at IS NULL THEN s.started_at
                                       WHEN s.status = 'abandoned' THEN least(s.ended_at, s.started_at + make_interval(secs => s.focus_seconds))
                                       ELSE s.ended_at END) AS ended_at
    FROM service.timer_sessions AS s
    WHERE s.focus AND s.status IN ('completed', 'abandoned') AND s.focus_seconds > 0
      AND (s.started_at >= $1 AND s.started_at < $2 OR s.started_at < $1 AND s.ended_at > $1)
), pieces AS (
    SELECT h AS at,
           CASE WHEN c.ended_at = c.started_at THEN c.seconds ELSE
               round(c.seconds * extract(epoch FROM least(h + interval '1 hour', c.ended_at) - c.started_at) / extract(epoch FROM c.ended_at - c.started_at))
             - round(c.seconds * extract(epoch FROM greatest(h, c.started_at) - c.started_at) / extract(epoch FROM c.ended_at - c.started_at))
           END AS seconds
    FROM credited AS c
    CROSS JOIN LATERAL generate_series(
        date_bin('1 hour', greatest(c.started_at, $1), $1),
        least(greatest(date_bin('1 hour', c.started_at, $1), c.ended_at - interval '1 microsecond'), $2 - interval '1 microsecond'),
        interval '1 hour') AS h
), focus AS (
    SELECT at, sum(seconds) AS seconds FROM pieces GROUP BY at
), started AS (
    SELECT date_bin('1 hour', started_at, $1) AS at, count(*) AS sessions, count(DISTINCT user_id) AS users
    FROM service.timer_sessions WHERE started_at >= $1 AND started_at < $2 GROUP BY 1
), running AS (
    SELECT min(date_bin('1 hour', started_at, $1)) AS since FROM service.timer_sessions
    WHERE focus AND status IN ('running', 'paused') AND started_at >= $2 - interval '4 hours' AND started_at < $2
)
SELECT h AS at, coalesce(s.sessions, 0) AS sessions, coalesce(f.seconds, 0) / 60.0 AS "focusMinutes",
       coalesce(s.users, 0) AS "activeUsers", coalesce(h >= r.since, false) AS provisional
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', interval '1 hour') AS h
LEFT JOIN started AS s ON s.at = h
LEFT JOIN focus AS f ON f.at = h
CROSS JOIN running AS r
ORDER BY h

-- name: hourly_service
-- Hours [$1, $2) as performanceMetrics measured them: mails sent and failed, the slowest job, latencies. Hours that were
-- not measured are missing.
SELECT period AT TIME ZONE 'UTC' AS at,
       (figures #>> '{mail,sent}')::float8 AS "mailsSent", (figures #>> '{mail,failed}')::float8 AS "mailsFailed",
       (figures #>> '{mail,latencyMs,p95}')::float8 AS "smtpLatencyMs",
       (figures ->> 'averageResponseTime')::float8 AS "responseMs", false AS provisional,
       (SELECT max((j.value #>> '{seconds,p95}')::float8) FROM jsonb_each(figures -> 'jobs') AS j) AS "jobSeconds"
FROM service.rollup
WHERE statistic = 'performance' AND period >= ($1::timestamptz AT TIME ZONE 'UTC') AND period < ($2::timestamptz AT TIME ZONE 'UTC')
ORDER BY period

-- name: daily
-- Service days [$1, $2) as dailyAnalytics counted them.
SELECT period AT TIME ZONE 'UTC' AS at,
       (figures ->> 'totalSessions')::float8 AS sessions, (figures ->> 'totalFocusTime')::float8 AS "focusMinutes",
       (figures ->> 'activeUsers')::float8 AS "activeUsers", (figures ->> 'newUsers')::float8 AS "newUsers",
       (figures ->> 'goalsCompleted')::float8 AS "goalsCompleted", NOT final AS provisional
FROM service.rollup
WHERE statistic = 'daily' AND period >= ($1::timestamptz AT TIME ZONE 'UTC') AND period < ($2::timestamptz AT TIME ZONE 'UTC')
ORDER BY period

-- name: points_between
-- Judged points of the series $1 in [$2, $3).
SELECT series, at, value, low, high, holiday FROM service.series_point
WHERE series = ANY ($1::text[]) AND at >= $2 AND at < $3 ORDER BY series, at

-- name: anomalies_between
-- Anomalies that overlap [$1, $2), newest first, at most $3; peak: the time of the highest score; NULL: it was withdrawn.
SELECT series, since, until, severity, direction, value, explanation, closed_at,
       CASE WHEN withdrawn_at IS NULL THEN detail ->> 'at' END AS peak
FROM service.anomaly WHERE since < $2 AND until >= $1 ORDER BY since DESC, series LIMIT $3

-- name: list_series
-- Every series, and whether it has an open anomaly.
SELECT s.name, s.state ->> 'cadence' AS cadence, s.state ->> 'measure' AS measure, s.through,
       EXISTS (SELECT FROM service.anomaly AS a WHERE a.series = s.name AND a.closed_at IS NULL) AS open
FROM service.series AS s ORDER BY s.name

-- name: stored
-- The detector's state of the series $1.
SELECT state, through, zone FROM service.series WHERE name = $1

-- name: chart
-- Points of series $1 on the dates in UTC from $2 to $3, both included; $4 at most.
SELECT at, value, expected, low, high, score, provisional, holiday FROM service.series_point
WHERE series = $1 AND at >= $2::date::timestamp AT TIME ZONE 'UTC' AND at < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'
ORDER BY at LIMIT $4

-- name: anomalies
-- Newest first. NULL means any: $1 series, $2 severity, $3 and $4 the dates in UTC that it overlaps, $5 open or over,
-- $6 before id; $7 limit.
SELECT id, series, since, until, severity, direction, value, expected, low, high, score, explanation, opened_at, closed_at,
       withdrawn_at,
       detail ->> 'cadence' AS cadence
FROM service.anomaly
WHERE ($1::text IS NULL OR series = $1) AND ($2::text IS NULL OR severity = $2)
  AND ($3::date IS NULL OR until >= $3::timestamp AT TIME ZONE 'UTC')
  AND ($4::date IS NULL OR since < ($4::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND ($5::boolean IS NULL OR (closed_at IS NULL) = $5) AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7
