-- name: state
-- The detector's state of a series, locked until the end of the step.
SELECT state, through FROM service.series WHERE name = $1 FOR UPDATE

-- name: save
-- Store the detector's state of a series.
INSERT INTO service.series (name, state, through) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET state = excluded.state, through = excluded.through

-- name: points
-- Store judged points.
INSERT INTO service.series_point (series, at, value, expected, low, high, score)
SELECT $1, * FROM unnest($2::timestamptz[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::float8[])
ON CONFLICT (series, at) DO UPDATE SET value = excluded.value, expected = excluded.expected, low = excluded.low,
                                       high = excluded.high, score = excluded.score

-- name: open
-- The open anomaly of a series.
SELECT * FROM service.anomaly WHERE series = $1 AND closed_at IS NULL

-- name: anomaly
-- Update the open anomaly of a series ($14: it is over), or open one.
WITH open AS (
    UPDATE service.anomaly SET until = $3, severity = $4, direction = $5, value = $6, expected = $7, low = $8, high = $9,
        score = $10, explanation = $11, calm = $12, detail = $13, closed_at = CASE WHEN $14 THEN service.now() END
    WHERE series = $1 AND closed_at IS NULL RETURNING id
)
INSERT INTO service.anomaly (series, since, until, severity, direction, value, expected, low, high, score, explanation,
                             calm, detail)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 WHERE NOT EXISTS (SELECT FROM open)

-- name: hourly_activity
-- Hours [$1, $2): sessions started, their credited focus in minutes, and who started one. Hours without any are zero.
SELECT h AS at, count(s.id) AS sessions,
       coalesce(sum(s.focus_seconds) FILTER (WHERE s.focus AND s.status IN ('completed', 'abandoned')), 0) / 60.0 AS "focusMinutes",
       count(DISTINCT s.user_id) AS "activeUsers"
FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', interval '1 hour') AS h
LEFT JOIN service.timer_sessions AS s ON s.started_at >= h AND s.started_at < h + interval '1 hour'
GROUP BY h ORDER BY h

-- name: hourly_service
-- Hours [$1, $2) as performanceMetrics measured them: mails sent and failed, the slowest job, latencies. Hours that were
-- not measured are missing.
SELECT period AT TIME ZONE 'UTC' AS at,
       (figures #>> '{mail,sent}')::float8 AS "mailsSent", (figures #>> '{mail,failed}')::float8 AS "mailsFailed",
       (figures #>> '{mail,latencyMs,p95}')::float8 AS "smtpLatencyMs",
       (figures ->> 'averageResponseTime')::float8 AS "responseMs",
       (SELECT max((j.value #>> '{seconds,p95}')::float8) FROM jsonb_each(figures -> 'jobs') AS j) AS "jobSeconds"
FROM service.rollup
WHERE statistic = 'performance' AND period >= ($1::timestamptz AT TIME ZONE 'UTC') AND period < ($2::timestamptz AT TIME ZONE 'UTC')
ORDER BY period

-- name: daily
-- Service days [$1, $2) as dailyAnalytics counted them.
SELECT period AT TIME ZONE 'UTC' AS at,
       (figures ->> 'totalSessions')::float8 AS sessions, (figures ->> 'totalFocusTime')::float8 AS "focusMinutes",
       (figures ->> 'activeUsers')::float8 AS "activeUsers", (figures ->> 'newUsers')::float8 AS "newUsers",
       (figures ->> 'goalsCompleted')::float8 AS "goalsCompleted"
FROM service.rollup
WHERE statistic = 'daily' AND period >= ($1::timestamptz AT TIME ZONE 'UTC') AND period < ($2::timestamptz AT TIME ZONE 'UTC')
ORDER BY period

-- name: points_between
-- Judged points of the series $1 in [$2, $3).
SELECT series, at, value, low, high FROM service.series_point
WHERE series = ANY ($1::text[]) AND at >= $2 AND at < $3 ORDER BY series, at

-- name: anomalies_between
-- Anomalies that overlap [$1, $2), newest first, at most $3; peak: the time of the highest score.
SELECT series, since, until, severity, direction, value, explanation, closed_at, detail ->> 'at' AS peak
FROM service.anomaly WHERE since < $2 AND until >= $1 ORDER BY since DESC, series LIMIT $3

-- name: list_series
-- Every series, and whether it has an open anomaly.
SELECT s.name, s.state ->> 'cadence' AS cadence, s.state ->> 'measure' AS measure, s.through,
       EXISTS (SELECT FROM service.anomaly AS a WHERE a.series = s.name AND a.closed_at IS NULL) AS open
FROM service.series AS s ORDER BY s.name

-- name: stored
-- The detector's state of the series $1.
SELECT state, through FROM service.series WHERE name = $1

-- name: chart
-- Points of series $1 on the dates in UTC from $2 to $3, both included; $4 at most.
SELECT at, value, expected, low, high, score FROM service.series_point
WHERE series = $1 AND at >= $2::date::timestamp AT TIME ZONE 'UTC' AND at < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'
ORDER BY at LIMIT $4

-- name: anomalies
-- Newest first. NULL means any: $1 series, $2 severity, $3 and $4 the dates in UTC that it overlaps, $5 open or over,
-- $6 before id; $7 limit.
SELECT id, series, since, until, severity, direction, value, expected, low, high, score, explanation, opened_at, closed_at,
       detail ->> 'cadence' AS cadence
FROM service.anomaly
WHERE ($1::text IS NULL OR series = $1) AND ($2::text IS NULL OR severity = $2)
  AND ($3::date IS NULL OR until >= $3::timestamp AT TIME ZONE 'UTC')
  AND ($4::date IS NULL OR since < ($4::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND ($5::boolean IS NULL OR (closed_at IS NULL) = $5) AND ($6::bigint IS NULL OR id < $6)
ORDER BY id DESC LIMIT $7
