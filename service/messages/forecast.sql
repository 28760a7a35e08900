-- name: now
-- The clock that decides.
SELECT service.now()

-- name: audience
-- Active users, counted by what decides when and whether they are written to: zone, chosen hours, preferences in the dashboard
-- and here, pause. mailable: those with an address that is not suppressed.
SELECT r.timezone, r.hours, o.overrides, CASE WHEN r.paused_until > service.now() THEN r.paused_until END AS paused_until,
       r.preferences - '{quiet,work_start,work_end,work_minutes,short_break_minutes,week_start}'::text[] AS preferences,
       count(*) AS people,
       count(*) FILTER (WHERE r.mail_address IS NOT NULL AND s.address IS NULL
                          AND NOT (EXISTS (SELECT FROM service.suppressed_key) AND EXISTS (
                              SELECT FROM service.suppressed_key AS k WHERE k.address_key = service.keyed_hash(r.mail_address)))) AS mailable
FROM service.recipient AS r
LEFT JOIN (SELECT user_id, jsonb_agg(jsonb_build_array(kind, channel, enabled) ORDER BY kind, channel) AS overrides
           FROM service.preference_override GROUP BY user_id) AS o ON o.user_id = r.id
LEFT JOIN (SELECT DISTINCT address FROM service.suppressed_address) AS s ON s.address = r.mail_address
WHERE r.active
GROUP BY 1, 2, 3, 4, 5
