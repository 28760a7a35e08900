-- name: page
-- The next users who have been away for some days, or never began, with earlier messages about it.
WITH people AS MATERIALIZED (  -- whose slot it is, before the expensive part
    SELECT * FROM service.recipient
    WHERE id > $1 AND ($4::text IS NULL OR id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(timezone, hours, $7) = ANY ($3))
), chosen AS MATERIALIZED (
    SELECT r.*, last.at AS last_activity,
           coalesce(CASE WHEN $5::text IS NULL THEN service.user_time(r.id, coalesce(last.at, r.created_at))::date END,
                    service.local_time(coalesce(last.at, r.created_at), clock)::date) AS away_since
    FROM people AS r
    JOIN service.zone AS clock ON clock.name = coalesce($5::text, r.timezone)
    CROSS JOIN LATERAL (SELECT service.last_activity(r.id, $2) AS at) AS last
    WHERE ($4 IS NOT NULL OR coalesce(last.at, r.created_at) BETWEEN $2 - interval '35 days' AND $2 - interval '1 day')
    ORDER BY r.id LIMIT $6
)
SELECT c.*,
       (SELECT jsonb_agg(jsonb_build_array(e.episode, e.steps, e.last_on, EXISTS (
            SELECT 1 FROM service.timer_sessions AS s
            WHERE s.user_id = c.id AND s.started_at >= e.last_at AND s.started_at <= e.last_at + interval '7 days'
            UNION ALL
            SELECT 1 FROM service.goals AS g
            WHERE g.user_id = c.id AND g.updated_at >= e.last_at AND g.updated_at <= e.last_at + interval '7 days'
        )) ORDER BY e.last_on)
        FROM (SELECT split_part(d.dedupe_key, ':', 3) AS episode, max(d.local_date) AS last_on,
                     max(d.not_before) AS last_at,
                     jsonb_agg(DISTINCT split_part(d.dedupe_key, ':', 4)::int) AS steps
              FROM service.delivery_with_state AS d
              WHERE d.user_id = c.id AND d.job = 'reminder.inactiveUsers'
                AND service.counts_as_delivered(d.state)
                AND d.dedupe_key NOT LIKE '%:force:%'
              GROUP BY 1) AS e) AS episodes,
       service.active_dates(c.id, $2, $5) AS active_dates,
       (SELECT jsonb_agg(z.since_date)
        FROM service.zone_span AS z WHERE z.user_id = c.id AND z.since > '-infinity') AS moved,
       (SELECT jsonb_agg(to_jsonb(g))
        FROM (SELECT g.* FROM service.goals AS g
              WHERE g.user_id = c.id AND g.open
                AND NOT coalesce(g.target_value > 0 AND g.current_value >= g.target_value, false)
              ORDER BY coalesce(g.due_date::timestamptz, g.due_at) NULLS LAST, g.id LIMIT 3) AS g) AS goals
FROM chosen AS c ORDER BY c.id
