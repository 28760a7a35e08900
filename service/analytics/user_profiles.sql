-- name: users_due
-- Users whose profile is kept: that have one, or $4 dates with a session in the last 90 days. Due are those active since
-- the day before $1, those active in 90 days whose profile is a week old, and those whose profile is stale; after $2, at
-- most $3. A run for a day in the past does not overwrite newer profiles.
(SELECT s.user_id FROM service.user_span AS s LEFT JOIN service.user_profile AS p USING (user_id)
 WHERE s.user_id > $2 AND s.last_date >= $1::date - 90
   AND (s.last_date >= $1::date - 1 OR p.as_of IS NULL OR p.as_of < $1::date - 7) AND coalesce(p.as_of <= $1::date, true)
   AND (p.user_id IS NOT NULL OR $4 <= (
       SELECT count(*) FROM (SELECT FROM service.user_day AS d WHERE d.user_id = s.user_id AND d.started > 0
                               AND d.local_date BETWEEN $1::date - 89 AND $1::date LIMIT $4) AS days))
 ORDER BY s.user_id LIMIT $3)
UNION
(SELECT user_id FROM service.user_profile WHERE stale AND user_id > $2 AND as_of <= $1::date ORDER BY user_id LIMIT $3)
ORDER BY user_id LIMIT $3

-- name: active_lately
-- The date in UTC, if the user $1 was active in the 90 days before.
SELECT as_of FROM (SELECT (service.now() AT TIME ZONE 'UTC')::date AS as_of) AS today
WHERE EXISTS (SELECT FROM service.user_span WHERE user_id = $1 AND last_date >= as_of - 90)

-- name: profile_facts
-- The data of profiles, for users $1, up to the local date $2. cells: ended focus sessions that have the same date (as
-- its ordinal: 1 is 0001-01-01), half of the day, link to a goal and planned length, with [.., completed, started].
WITH sessions AS MATERIALIZED (
    SELECT l.user_id, l.local_day, l.local_start, l.status = 'completed' AS done, l.focus_seconds, l.planned_seconds, l.goal_id
    FROM unnest($1::text[]) AS u JOIN service.local_session AS l
      ON l.user_id = u AND l.started_at >= $2::date - interval '92 days' AND l.started_at < $2::date + interval '2 days'
    WHERE l.local_day BETWEEN $2::date - 89 AND $2::date AND l.focus AND l.status IN ('completed', 'cancelled', 'abandoned')
), cells AS (
    SELECT user_id, jsonb_agg(jsonb_build_array(0, day, early, linked, minutes, done, started)
                              ORDER BY day, early, linked, minutes) AS cells
    FROM (SELECT user_id, local_day - date '0001-01-01' + 1 AS day, (extract(hour FROM local_start) < 12)::int AS early,
                 (goal_id IS NOT NULL)::int AS linked, 5 * round(greatest(coalesce(planned_seconds, 0), 0) / 300.0)::int AS minutes,
                 count(*) FILTER (WHERE done) AS done, count(*) AS started
          FROM sessions GROUP BY 1, 2, 3, 4, 5) AS alike GROUP BY user_id
), lists AS (
    SELECT user_id, jsonb_agg(round(focus_seconds / 60.0, 1) ORDER BY local_start) FILTER (WHERE done) AS minutes,
           jsonb_agg(extract(hour FROM local_start) * 60 + extract(minute FROM local_start) ORDER BY local_start) AS starts
    FROM sessions GROUP BY user_id
), dates AS (
    SELECT d.user_id, jsonb_agg(d.local_date ORDER BY d.local_date) FILTER (WHERE d.focus_seconds >= 60) AS active,
           jsonb_agg(d.local_date ORDER BY d.local_date) FILTER (WHERE d.started > 0) AS opened,
           jsonb_agg(d.local_date ORDER BY d.local_date) FILTER (WHERE d.completed > 0) AS done
    FROM unnest($1::text[]) AS u JOIN service.user_day AS d ON d.user_id = u AND d.local_date BETWEEN $2::date - 179 AND $2::date
    GROUP BY d.user_id
), hours AS (
    SELECT user_id, jsonb_object_agg(hour, seconds) AS seconds
    FROM (SELECT d.user_id, h.key AS hour, sum(h.value::int) AS seconds
          FROM unnest($1::text[]) AS u JOIN service.user_day AS d ON d.user_id = u AND d.local_date BETWEEN $2::date - 89 AND $2::date
          CROSS JOIN LATERAL jsonb_each_text(d.hours) AS h GROUP BY 1, 2) AS totals GROUP BY user_id
), weeks AS (
    SELECT user_id, jsonb_object_agg(week, minutes) AS minutes
    FROM (SELECT d.user_id, ($2::date - d.local_date) / 7 AS week, sum(d.focus_seconds) / 60.0 AS minutes
          FROM unnest($1::text[]) AS u JOIN service.user_day AS d ON d.user_id = u AND d.local_date BETWEEN $2::date - 97 AND $2::date
          GROUP BY 1, 2) AS totals GROUP BY user_id
)
SELECT p.user_id, p.first_date, c.cells, i.minutes, i.starts, a.active, a.opened, a.done, h.seconds AS hours,
       w.minutes AS weeks
FROM service.user_span AS p LEFT JOIN cells AS c USING (user_id)
LEFT JOIN lists AS i USING (user_id) LEFT JOIN dates AS a USING (user_id) LEFT JOIN hours AS h USING (user_id)
LEFT JOIN weeks AS w USING (user_id)
WHERE p.user_id = ANY ($1::text[]) ORDER BY p.user_id

-- name: mark_stale_profiles
-- Mark the profiles of users $1 as stale that rest on their local dates $2.
UPDATE service.user_profile AS p SET stale = true
FROM (SELECT u, min(d) AS day FROM unnest($1::text[], $2::date[]) AS k (u, d) GROUP BY u) AS k
WHERE p.user_id = k.u AND p.as_of >= k.day AND NOT p.stale

-- name: mark_stale_by_model
-- Mark the profiles as stale that rest on the churn models of months $1, where $2 differ from what is stored.
UPDATE service.user_profile AS p SET stale = true
FROM unnest($1::timestamp[], $2::text[]) AS n (period, figures)
WHERE NOT p.stale AND p.as_of >= n.period + interval '1 month'
  AND NOT EXISTS (SELECT FROM service.rollup AS later WHERE later.statistic = 'churnModel' AND later.period > n.period
                  AND p.as_of >= later.period + interval '1 month')
  AND NOT EXISTS (SELECT FROM service.rollup AS same WHERE same.statistic = 'churnModel' AND same.period = n.period
                  AND same.figures = n.figures::jsonb)

-- name: delete_profiles
-- Those of these users who have no active date any more.
DELETE FROM service.user_profile AS p
WHERE user_id = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM service.user_span AS s WHERE s.user_id = p.user_id)

-- name: store_profiles
-- Store profiles as of a date; unchanged ones are not written.
INSERT INTO service.user_profile AS t (user_id, figures, as_of)
SELECT user_id, figures::jsonb, $3 FROM unnest($1::text[], $2::text[]) AS f (user_id, figures)
ON CONFLICT (user_id) DO UPDATE SET
    figures = excluded.figures, as_of = excluded.as_of, computed_at = excluded.computed_at, stale = false
WHERE t.stale OR (t.figures, t.as_of) IS DISTINCT FROM (excluded.figures, excluded.as_of)

-- name: month_counts
-- Everybody's ended focus sessions of the local month that begins on $1, as cells (see profile_facts), of people in 50
-- groups; how many people completed a session on each of the 98 dates (as ordinals) up to its end, and their minutes.
WITH month AS (
    SELECT $1::date AS first_day, ($1::date + interval '1 month')::date - 1 AS last_day
), days AS (
    SELECT local_date - date '0001-01-01' + 1 AS day, count(*) FILTER (WHERE completed > 0) AS people,
           sum(focus_seconds) / 60.0 AS minutes
    FROM service.user_day CROSS JOIN month WHERE local_date BETWEEN last_day - 97 AND last_day GROUP BY 1
), alike AS (
    SELECT (hashtext(l.user_id) & 2147483647) % 50 AS people, l.local_day - date '0001-01-01' + 1 AS day,
           (extract(hour FROM l.local_start) < 12)::int AS early, (l.goal_id IS NOT NULL)::int AS linked,
           5 * round(greatest(coalesce(l.planned_seconds, 0), 0) / 300.0)::int AS minutes,
           count(*) FILTER (WHERE l.status = 'completed') AS done, count(*) AS started
    FROM service.local_session AS l
    WHERE l.started_at >= $1::date - interval '1 day' AND l.started_at < $1::date + interval '1 month 2 days'
      AND l.local_day BETWEEN $1::date AND ($1::date + interval '1 month')::date - 1
      AND l.focus AND l.status IN ('completed', 'cancelled', 'abandoned')
    GROUP BY 1, 2, 3, 4, 5
)
SELECT month.last_day,
       (SELECT jsonb_agg(jsonb_build_array(people, day, early, linked, minutes, done, started)
                         ORDER BY people, day, early, linked, minutes) FROM alike) AS cells,
       (SELECT jsonb_object_agg(day, jsonb_build_array(people, minutes)) FROM days) AS days,
       (SELECT count(DISTINCT user_id) FROM service.user_day
        WHERE started > 0 AND local_date BETWEEN last_day - 97 AND last_day) AS people
FROM month

-- name: churn_samples
-- Users as of 28 days before $1, and whether they have had no session since: recency, active days in 28 and in 180
-- days, tenure. In a fixed order, so that the model is always the same.
SELECT d.user_id, ($1::date - 28) - max(d.local_date) FILTER (WHERE d.local_date <= $1::date - 28) AS recency,
       count(*) FILTER (WHERE d.local_date BETWEEN $1::date - 55 AND $1::date - 28) AS active_28,
       count(*) FILTER (WHERE d.local_date BETWEEN $1::date - 207 AND $1::date - 28) AS active_180,
       ($1::date - 28) - s.first_date AS tenure,
       NOT bool_or(d.local_date > $1::date - 28) AS left
FROM service.user_day AS d JOIN service.user_span AS s USING (user_id)
WHERE d.started > 0 AND d.local_date BETWEEN $1::date - 207 AND $1::date AND s.first_date <= $1::date - 28
GROUP BY d.user_id, s.first_date
HAVING count(*) FILTER (WHERE d.local_date BETWEEN $1::date - 207 AND $1::date - 28) >= 3
ORDER BY hashtext(d.user_id), d.user_id LIMIT 5000

-- name: churn_model
-- The churn model of the last month that ended before $1 and has one.
SELECT figures FROM service.rollup WHERE statistic = 'churnModel' AND period + interval '1 month' <= $1::date
ORDER BY period DESC LIMIT 1

-- name: stored
-- The profile of user $1.
SELECT user_id, figures, as_of, computed_at FROM service.user_profile WHERE user_id = $1
