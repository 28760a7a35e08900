-- name: page
-- The next users with a running focus session, and what they did in the hours before.
SELECT r.*, coalesce($5::text, r.timezone) AS clock_zone, running.sessions AS running, earlier.intervals AS earlier,
       greatest((SELECT max(g.updated_at) FROM service.goals AS g WHERE g.user_id = r.id AND g.updated_at <= $2),
                (SELECT max(s.updated_at) FROM service.timer_sessions AS s WHERE s.user_id = r.id AND s.updated_at <= $2)
       ) AS last_write
FROM service.recipient AS r
CROSS JOIN LATERAL (
    SELECT jsonb_agg(to_jsonb(s) ORDER BY s.started_at DESC) AS sessions FROM service.timer_sessions AS s
    WHERE s.user_id = r.id AND s.focus AND s.status = 'running') AS running
CROSS JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(s.started_at, s.ended_at)) AS intervals FROM service.timer_sessions AS s
    WHERE s.user_id = r.id AND s.focus AND s.status = 'completed' AND s.ended_at > s.started_at
      AND s.started_at BETWEEN $2::timestamptz - interval '36 hours' AND $2) AS earlier
WHERE r.id > $1 AND ($4::text IS NULL OR r.id = $4)
  AND ($3::text[] IS NULL OR service.slot_group(r.timezone, r.hours, $7) = ANY ($3))
  AND ($4 IS NOT NULL OR r.id IN (SELECT user_id FROM service.timer_sessions WHERE focus AND status = 'running'))
ORDER BY r.id LIMIT $6
