-- name: holder
-- The user of a link, the kind of the message, the preferences in the dashboard and here. $1: token.
SELECT d.user_id, d.kind, coalesce(u.preferences, '{}') AS preferences,
       coalesce(z.used, service.default_zone()) AS dashboard_timezone, coalesce(u.locale, 'en') AS dashboard_locale,
       s.timezone, s.locale, s.quiet_start, s.quiet_end, coalesce(s.hours, '{}') AS hours, s.paused_until,
       service.now() AS now
FROM service.delivery d
LEFT JOIN service.users u ON u.id = d.user_id
LEFT JOIN service.zone z ON z.name = u.timezone
LEFT JOIN service.recipient_setting s ON s.user_id = d.user_id
WHERE d.token = $1

-- name: now
-- The database's time, which decides when a pause ends.
SELECT service.now()

-- name: overrides
-- The user's choices here. $1: user.
SELECT kind, channel, enabled FROM service.preference_override WHERE user_id = $1

-- name: store_settings
-- Store settings; NULL: as in the dashboard. $1 user, $2 zone, $3 language, $4 and $5 quiet hours, $6 hours of
-- the day by kind, $7 paused until.
INSERT INTO service.recipient_setting (user_id, timezone, locale, quiet_start, quiet_end, hours, paused_until)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (user_id) DO UPDATE SET
    timezone = excluded.timezone, locale = excluded.locale, quiet_start = excluded.quiet_start,
    quiet_end = excluded.quiet_end, hours = excluded.hours, paused_until = excluded.paused_until,
    updated_at = service.now()
