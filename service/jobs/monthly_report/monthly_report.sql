-- name: page
-- The next users with the sessions of the last two months, all completed dates of the month, and their goals.
WITH chosen AS MATERIALIZED (
    SELECT r.*, month.first, month.first + interval '1 month' AS after
    FROM service.recipient AS r
    CROSS JOIN LATERAL (SELECT coalesce($5::text, r.timezone) AS name) AS zone
    CROSS JOIN LATERAL (
        SELECT (date_trunc('month', $2::timestamptz AT TIME ZONE zone.name) - interval '1 month')::date AS first) AS month
    WHERE r.id > $1 AND ($4::text IS NULL OR r.id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(r.timezone, r.hours, $7) = ANY ($3))
    ORDER BY r.id LIMIT $6
)
SELECT c.*,
       (SELECT jsonb_agg(jsonb_build_array(s.day, s.focus, s.status, s.focus_seconds, s.category))
        FROM (SELECT l.*, (l.started_at AT TIME ZONE coalesce($5, l.timezone))::date AS day
              FROM service.local_session AS l
              WHERE l.user_id = c.id AND l.started_at BETWEEN c.first - interval '33 days' AND $2) AS s) AS sessions,
       (SELECT jsonb_agg((z.since AT TIME ZONE z.timezone)::date)
        FROM service.zone_span AS z WHERE z.user_id = c.id AND z.since > '-infinity') AS moved,
       (SELECT jsonb_agg(to_jsonb(g)) FROM service.goals AS g
        WHERE g.user_id = c.id AND (g.open OR g.completed_at > c.first - interval '2 days'
                                    OR g.created_at > c.first - interval '2 days')) AS goals
FROM chosen AS c ORDER BY c.id
