-- name: page
-- The next users with open goals, since which local date each goal is at rest, and which of these were announced.
WITH people AS MATERIALIZED (
    SELECT * FROM service.recipient AS r
    WHERE id > $1 AND ($4::text IS NULL OR id = $4)
      AND ($3::text[] IS NULL OR service.slot_group(timezone, hours, $7) = ANY ($3))
      AND EXISTS (SELECT 1 FROM service.goals AS g WHERE g.user_id = r.id AND g.open)
    ORDER BY id LIMIT $6
)
SELECT p.*, rest.goals, rest.announced
FROM people AS p
CROSS JOIN LATERAL (
    SELECT jsonb_agg(to_jsonb(g) || jsonb_build_object('since', since.day) ORDER BY g.id)
               FILTER (WHERE since.day IS NOT NULL) AS goals,
           (SELECT array_agg(s.stage_key) FROM service.delivery_stage AS s
            WHERE s.stage_key = ANY (array_agg('acme.stalledGoals:' || g.id || ':' || since.day))) AS announced
    FROM service.goals AS g
    CROSS JOIN LATERAL (
        SELECT service.local_time(last.at, clock)::date AS day
        FROM (SELECT coalesce(max(s.started_at), g.created_at) AS at
              FROM service.timer_sessions AS s WHERE s.goal_id = g.id AND s.started_at <= $2::timestamptz) AS last
        JOIN service.zone AS clock ON clock.name = coalesce($5::text, p.timezone)
    ) AS since
    WHERE g.user_id = p.id AND g.open
) AS rest
ORDER BY p.id
