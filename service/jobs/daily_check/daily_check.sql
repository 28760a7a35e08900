-- name: page
-- The next users who were active within seven local days, with the dates of their sessions and up to three goals.
WITH people AS MATERIALIZED (  -- whose slot it is, before the expensive part
    SELECT * FROM service.recipient
    WHERE id > $1 AND ($4::text IS NULL OR id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(timezone, hours, $7) = ANY ($3))
), chosen AS MATERIALIZED (
    SELECT r.*, service.local_time($2::timestamptz, clock)::date AS today,
           last.at AS last_activity,
           coalesce(CASE WHEN $5::text IS NULL THEN service.user_time(r.id, last.at)::date END,
                    service.local_time(last.at, clock)::date) AS away_since
    FROM people AS r
    JOIN service.zone AS clock ON clock.name = coalesce($5::text, r.timezone)
    CROSS JOIN LATERAL (SELECT service.last_activity(r.id, $2) AS at) AS last
    WHERE ($4 IS NOT NULL OR last.at > $2 - interval '9 days')
    ORDER BY r.id LIMIT $6
)
SELECT c.*,
       service.active_dates(c.id, $2, $5) AS active_dates,
       (SELECT jsonb_agg(DISTINCT coalesce(service.local_time(s.started_at, clock)::date, s.local_day))
        FROM service.local_session AS s LEFT JOIN service.zone AS clock ON clock.name = $5
        WHERE s.user_id = c.id AND s.started_at BETWEEN $2 - interval '5 days' AND $2) AS recent_days,
       EXISTS (SELECT 1 FROM service.timer_sessions AS s
               WHERE s.user_id = c.id AND s.focus AND s.status IN ('running', 'paused')
                 AND s.started_at BETWEEN $2 - interval '24 hours' AND $2) AS in_session,
       (SELECT jsonb_agg(z.since_date)
        FROM service.zone_span AS z WHERE z.user_id = c.id AND z.since > '-infinity') AS moved,
       (SELECT max(d.local_date) FROM service.delivery_with_state AS d
        WHERE d.user_id = c.id AND d.job = 'reminder.dailyCheck' AND d.channel = 'email' AND d.local_date < c.today
          AND d.facts ->> 'variant' = 'gentle'
          AND service.counts_as_delivered(d.state)) AS gentle_on,
       (SELECT jsonb_agg(DISTINCT jsonb_build_array(split_part(d.dedupe_key, ':', 3), split_part(d.dedupe_key, ':', 4),
                                                    d.local_date))
        FROM service.delivery_with_state AS d
        WHERE d.user_id = c.id AND d.job = 'reminder.inactiveUsers' AND d.local_date > c.today - 30) AS steps,
       (SELECT jsonb_agg(to_jsonb(g) ORDER BY g.at NULLS LAST, g.id)
        FROM (SELECT g.*, coalesce(g.due_date::timestamptz, g.due_at) AS at FROM service.goals AS g
              WHERE g.user_id = c.id AND g.open
                AND NOT coalesce(g.target_value > 0 AND g.current_value >= g.target_value, false)
              ORDER BY coalesce(g.due_date::timestamptz, g.due_at) NULLS LAST, g.id LIMIT 3) AS g) AS goals
FROM chosen AS c ORDER BY c.id
