-- name: now
-- The clock that decides.
SELECT service.now()

-- name: audience
-- Active users with an address, counted by what decides when and whether they are written to: zone, chosen hours,
-- preferences in the dashboard and here, pause. mailable: those whose address is not suppressed.
SELECT r.timezone, r.hours, o.overrides, CASE WHEN r.paused_until > service.now() THEN r.paused_until END AS paused_until,
       r.preferences - '{quiet,work_start,work_end,work_minutes,short_break_minutes,week_start}'::text[] AS preferences,
       count(*) AS people, count(*) FILTER (WHERE s.address IS NULL) AS mailable
FROM service.recipient AS r
LEFT JOIN (SELECT user_id, jsonb_agg(jsonb_build_array(kind, channel, enabled) ORDER BY kind, channel) AS overrides
           FROM service.preference_override GROUP BY user_id) AS o ON o.user_id = r.id
LEFT JOIN service.suppression AS s ON s.address = lower(r.email)
WHERE r.active AND r.email IS NOT NULL
GROUP BY 1, 2, 3, 4, 5
