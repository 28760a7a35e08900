-- name: rollups
-- Figures of a statistic ($1), oldest first: periods that begin on the dates $2 to $3, after $4, at most $5; $6: with
-- the cells of the cohorts.
SELECT period, CASE WHEN $6 THEN figures ELSE figures - 'cohorts' END AS figures, revision, final, computed_at
FROM service.rollup
WHERE statistic = $1 AND period >= $2::date AND period < $3::date + 1 AND period > $4
ORDER BY period LIMIT $5

-- name: newest
-- The last period of a statistic that has been derived.
SELECT max(period) FROM service.rollup WHERE statistic = $1

-- name: first_and_last
-- The first and the last derived period of a statistic; NULLs: there are none.
SELECT min(period) AS first, max(period) AS last FROM service.rollup WHERE statistic = $1

-- name: earlier_days
-- The figures $3 of the days from $1 up to $2 (excluded), with which later days are compared.
SELECT r.period, jsonb_object_agg(f.name, r.figures -> f.name) AS figures
FROM service.rollup AS r CROSS JOIN unnest($3::text[]) AS f (name)
WHERE r.statistic = 'daily' AND r.period >= $1 AND r.period < $2 GROUP BY r.period

-- name: figures_of_period
-- The figures of one period.
SELECT period, figures, revision, final, computed_at FROM service.rollup WHERE statistic = $1 AND period = $2

-- name: earlier_figures
-- The earlier revisions of one period's figures, newest first.
SELECT revision, figures, computed_at, replaced_at FROM service.rollup_revision
WHERE statistic = $1 AND period = $2 ORDER BY revision DESC

-- name: cells
-- The stored cells of a cohort table ($1 weekly or monthly), of cohorts that begin on the dates $2 to $3.
SELECT c.cohort, c.n, c.size, c.active, r.final
FROM service.rollup AS r
CROSS JOIN LATERAL jsonb_to_recordset(r.figures -> 'cohorts') AS c (cohort date, n int, size int, active int)
WHERE r.statistic = $1 AND c.cohort BETWEEN $2 AND $3
ORDER BY c.cohort, c.n

-- name: last_seen
-- People by the period ($1 weekly or monthly) of their first and of their last active date; first ones from $2 to $3.
SELECT cohort, last, count(*)::int AS people
FROM service.user_span
CROSS JOIN LATERAL (
    SELECT CASE WHEN $1 = 'weekly' THEN first_date - extract(dow FROM first_date)::int
                ELSE date_trunc('month', first_date)::date END AS cohort,
           CASE WHEN $1 = 'weekly' THEN last_date - extract(dow FROM last_date)::int
                ELSE date_trunc('month', last_date)::date END AS last) AS p
WHERE cohort BETWEEN $2 AND $3
GROUP BY cohort, last ORDER BY cohort, last

-- name: periods
-- The derived periods from date $2 on, and whether they are final.
SELECT period::date AS period, final FROM service.rollup WHERE statistic = $1 AND period >= $2::date ORDER BY period

-- name: days_of_user
-- One user's days ($1) from $2 to $3, after $4, at most $5.
SELECT * FROM service.user_day
WHERE user_id = $1 AND local_date BETWEEN $2 AND $3 AND local_date > $4 ORDER BY local_date LIMIT $5

-- name: user_exists
-- Whether there is or was such a user.
SELECT EXISTS (SELECT FROM service.users WHERE id = $1) OR EXISTS (SELECT FROM service.user_day WHERE user_id = $1)

-- name: days
-- Everybody's days from $1 to $2, after (date $3, user $4), at most $5.
SELECT * FROM service.user_day
WHERE local_date BETWEEN $1 AND $2 AND (local_date, user_id) > ($3, $4::text) ORDER BY local_date, user_id LIMIT $5

-- name: kinds
-- Which kinds of sessions there are on the days from $1 to $2, of everybody or of the user $3.
SELECT DISTINCT k FROM service.user_day CROSS JOIN LATERAL jsonb_object_keys(kinds) AS k
WHERE local_date BETWEEN $1 AND $2 AND ($3::text IS NULL OR user_id = $3) ORDER BY k

-- name: spans
-- First and last active dates; first ones from $1 to $2, after user $3, at most $4.
SELECT * FROM service.user_span WHERE first_date BETWEEN $1 AND $2 AND user_id > $3 ORDER BY user_id LIMIT $4

-- name: profiles
-- Profiles of users, as of the dates $1 to $2, after user $3, at most $4.
SELECT * FROM service.user_profile WHERE as_of BETWEEN $1 AND $2 AND user_id > $3 ORDER BY user_id LIMIT $4

-- name: revisions
-- Earlier figures of every statistic, of periods that begin on the dates $1 to $2, after (statistic $3, period $4,
-- revision $5), at most $6.
SELECT * FROM service.rollup_revision
WHERE period >= $1::date AND period < $2::date + 1 AND (statistic, period, revision) > ($3::text, $4, $5)
ORDER BY statistic, period, revision LIMIT $6

-- name: watermarks
-- How far each statistic ($1) has been derived, and how much must be derived again.
SELECT s AS statistic, w.through, w.working, w.updated_at,
       (SELECT max(period) FROM service.rollup AS r WHERE r.statistic = s AND r.final) AS final_through,
       (SELECT count(*) FROM service.rollup AS r WHERE r.statistic = s AND NOT r.final) AS provisional,
       (SELECT count(*) FROM service.stale_period AS p WHERE p.statistic = s) AS stale,
       (SELECT min(period) FROM service.stale_period AS p WHERE p.statistic = s) AS oldest_stale
FROM unnest($1::text[]) WITH ORDINALITY AS n (s, place)
LEFT JOIN service.watermark AS w ON w.statistic = s
ORDER BY place

-- name: stale_days
-- Days of users that wait to be rebuilt.
SELECT count(*) AS days, count(DISTINCT user_id) AS users, min(local_day) AS oldest FROM service.stale_day
