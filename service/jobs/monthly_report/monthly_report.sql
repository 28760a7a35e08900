-- name: page
-- The next users with the sessions of the last two months, all completed dates of the month, and their goals.
WITH chosen AS MATERIALIZED (
    SELECT r.*, month.first, month.first + interval '1 month' AS after
    FROM service.recipient AS r
    JOIN service.zone AS clock ON clock.name = coalesce($5::text, r.timezone)
    CROSS JOIN LATERAL (
        SELECT (date_trunc('month', service.local_time($2::timestamptz, clock)) - interval '1 month')::date AS first) AS month
    WHERE r.id > $1 AND ($4::text IS NULL OR r.id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(r.timezone, r.hours, $7) = ANY ($3))
    ORDER BY r.id LIMIT $6
)
SELECT c.*,
       (SELECT jsonb_agg(jsonb_build_array(s.day, s.focus, s.status, s.focus_seconds, s.category))
        FROM (SELECT l.*, coalesce(service.local_time(l.started_at, clock)::date, l.local_day) AS day
              FROM service.local_session AS l LEFT JOIN service.zone AS clock ON clock.name = $5
              WHERE l.user_id = c.id AND l.started_at BETWEEN c.first - interval '33 days' AND $2) AS s) AS sessions,
       (SELECT jsonb_agg(z.since_date)
        FROM service.zone_span AS z WHERE z.user_id = c.id AND z.since > '-infinity') AS moved,
       (SELECT jsonb_agg(to_jsonb(g)) FROM service.goals AS g
        WHERE g.user_id = c.id AND (g.open OR g.completed_at > c.first - interval '2 days'
                                    OR g.created_at > c.first - interval '2 days')) AS goals
FROM chosen AS c ORDER BY c.id
