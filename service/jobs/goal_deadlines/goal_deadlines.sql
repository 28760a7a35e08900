-- name: page
-- The next users who have an open goal due from 30 days ago to 7 days ahead, with these goals and their used stages.
WITH due AS MATERIALIZED (
    SELECT u.id AS user_id, g.id AS goal_id, coalesce(g.due_date, service.local_time(g.due_at, clock)::date) AS due,
           service.local_time($2::timestamptz, clock)::date AS today
    FROM (
        SELECT id, clock.name AS zone
        FROM service.recipient AS u JOIN service.zone AS clock ON clock.name = coalesce($5::text, u.timezone)
        WHERE id > $1 AND ($4::text IS NULL OR id = $4)
          AND ($3::text[] IS NULL OR service.slot_group(timezone, hours, $7) = ANY ($3))
          AND EXISTS (SELECT 1 FROM service.goals AS g
                      WHERE g.user_id = u.id AND g.open
                        AND coalesce(g.due_date, service.local_time(g.due_at, clock)::date)
                            BETWEEN service.local_time($2::timestamptz, clock)::date - 30
                                AND service.local_time($2::timestamptz, clock)::date + 7
                        AND NOT coalesce(g.target_value > 0 AND g.current_value >= g.target_value, false))
        ORDER BY id LIMIT $6
    ) AS u
    JOIN service.zone AS clock ON clock.name = u.zone
    JOIN service.goals AS g ON g.user_id = u.id AND g.open
         AND NOT coalesce(g.target_value > 0 AND g.current_value >= g.target_value, false)
         AND (g.due_date IS NOT NULL OR g.due_at IS NOT NULL)
)
SELECT u.*, goals.due_goals AS goals, goals.stages
FROM (
    SELECT d.user_id,
           jsonb_agg(to_jsonb(g) || jsonb_build_object('due', d.due))
               FILTER (WHERE d.due BETWEEN d.today - 30 AND d.today + 7) AS due_goals,
           (SELECT jsonb_object_agg(s.stage_key, service.counts_as_delivered(m.state))
            FROM service.delivery_stage AS s JOIN service.delivery_with_state AS m ON m.id = s.delivery_id
            WHERE s.stage_key = ANY (array_agg('goalDeadlines:' || d.goal_id || ':' || d.due || ':D7')
                                  || array_agg('goalDeadlines:' || d.goal_id || ':' || d.due || ':D1')
                                  || array_agg('goalDeadlines:' || d.goal_id || ':' || d.due || ':D0')
                                  || array_agg('goalDeadlines:' || d.goal_id || ':' || d.due || ':OV'))) AS stages
    FROM due AS d JOIN service.goals AS g ON g.id = d.goal_id
    GROUP BY d.user_id
) AS goals
JOIN service.recipient AS u ON u.id = goals.user_id
ORDER BY u.id
