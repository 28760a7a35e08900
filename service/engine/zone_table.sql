-- name: version
-- The version of the zone data in the table.
SELECT version FROM service.zone_data

-- name: set_version
-- The same, after it was filled from data of this version ($1).
INSERT INTO service.zone_data (version) VALUES ($1) ON CONFLICT ((true)) DO UPDATE SET version = excluded.version

-- name: names
-- Names ($1), each with the current name of its zone ($2).
INSERT INTO service.zone AS z (name, used) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (name) DO UPDATE SET used = excluded.used WHERE z.used <> excluded.used

-- name: forget_others
-- Names beside these ($1): the table began with those of PostgreSQL.
DELETE FROM service.zone WHERE name <> '' AND name <> ALL ($1::text[])

-- name: default
-- The zone of users without one.
INSERT INTO service.zone AS z (name, used) VALUES ('', $1)
ON CONFLICT (name) DO UPDATE SET used = excluded.used WHERE z.used <> excluded.used

-- name: clocks
-- The clock of each name, without its start in the infinite past.
SELECT name, starts[2:] AS changes, offsets FROM service.zone WHERE name <> ''

-- name: set_clock
-- The clock of a name ($1): its changes ($2), and the offset before the first and after each ($3).
UPDATE service.zone SET starts = '-infinity'::timestamptz || $2::timestamptz[], offsets = $3 WHERE name = $1

-- name: mark_days
-- The days, by the clocks of the table, of what happened in these zones ($1) from $2 to before $3.
INSERT INTO service.stale_day AS d (user_id, local_day, onward)
SELECT z.user_id, service.user_time(z.user_id, a.at)::date, bool_or(a.onward)
FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[]) AS c (zone, since, until)
JOIN service.zone_span AS z ON z.timezone = c.zone
CROSS JOIN LATERAL (
    SELECT s.started_at AS at, false AS onward FROM service.timer_sessions AS s
    WHERE s.user_id = z.user_id AND s.started_at >= c.since - interval '1 day' AND s.started_at < c.until
      AND greatest(s.started_at, s.ended_at) >= c.since
    UNION ALL
    SELECT t.at, false
    FROM service.goals AS g CROSS JOIN LATERAL unnest(ARRAY[g.created_at, g.completed_at]) AS t (at)
    WHERE g.user_id = z.user_id AND t.at >= c.since AND t.at < c.until
    UNION ALL
    SELECT u.created_at, true FROM service.users AS u
    WHERE u.id = z.user_id AND u.created_at >= c.since AND u.created_at < c.until) AS a
WHERE a.at >= z.since AND a.at < z.until
GROUP BY 1, 2
ON CONFLICT (user_id, local_day) DO UPDATE SET onward = d.onward OR excluded.onward

-- name: mark_periods
-- The service's days, and windows with hours of people, that overlap spans from $1 to before $2.
INSERT INTO service.stale_period (statistic, period)
SELECT DISTINCT r.statistic, r.period
FROM unnest($1::timestamptz[], $2::timestamptz[]) AS c (since, until)
JOIN service.rollup AS r ON r.period >= c.since AT TIME ZONE 'UTC' - interval '2 days'
                        AND r.period < c.until AT TIME ZONE 'UTC' + interval '1 day'
WHERE r.statistic IN ('daily', 'behaviour')
ON CONFLICT DO NOTHING
