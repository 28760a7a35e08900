-- name: page
-- The next users with their sessions since before the earlier week, goals, and the figures of the last review.
WITH chosen AS MATERIALIZED (
    SELECT r.*, service.local_time($2::timestamptz, clock)::date AS today
    FROM service.recipient AS r
    JOIN service.zone AS clock ON clock.name = coalesce($5::text, r.timezone)
    WHERE r.id > $1 AND ($4::text IS NULL OR r.id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(r.timezone, r.hours, $7) = ANY ($3))
    ORDER BY r.id LIMIT $6
)
SELECT c.*, service.active_dates(c.id, $2, $5) AS active_dates,
       (SELECT jsonb_agg(jsonb_build_array(s.day, s.focus, s.status, s.focus_seconds, s.category))
        FROM (SELECT l.*, coalesce(service.local_time(l.started_at, clock)::date, l.local_day) AS day
              FROM service.local_session AS l LEFT JOIN service.zone AS clock ON clock.name = $5
              WHERE l.user_id = c.id AND l.started_at BETWEEN $2 - interval '26 days' AND $2) AS s
        WHERE s.day > c.today - 23) AS sessions,
       (SELECT jsonb_agg(z.since_date)
        FROM service.zone_span AS z WHERE z.user_id = c.id AND z.since > '-infinity') AS moved,
       (SELECT jsonb_agg(to_jsonb(g)) FROM service.goals AS g
        WHERE g.user_id = c.id
          AND ((g.open AND NOT coalesce(g.target_value > 0 AND g.current_value >= g.target_value, false)
                AND coalesce(g.due_date, g.due_at::date) BETWEEN c.today - 9 AND c.today + 16)
               OR g.completed_at BETWEEN $2 - interval '9 days' AND $2)) AS goals,
       (SELECT d.facts -> 'figures' FROM service.delivery_with_state AS d
        WHERE d.user_id = c.id AND d.job = 'reminder.weeklyReview' AND d.channel = 'email'
          AND d.local_date BETWEEN c.today - 9 AND c.today - 5
          AND service.counts_as_delivered(d.state)
        ORDER BY d.local_date DESC LIMIT 1) AS reported
FROM chosen AS c ORDER BY c.id
