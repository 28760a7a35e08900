-- Every stored zone is a name of service.zone, which the migration before has filled.

-- Where somebody is said to have lived in what is no zone, the zone before it holds, or today's. A word that PostgreSQL
-- took for an abbreviation (CET has no summer time there) becomes the zone it means. The trigger marks the days.
CREATE TEMPORARY TABLE healed ON COMMIT DROP AS
SELECT u.user_id, u.since, coalesce(
           k.used,
           (SELECT e.used FROM service.user_zone AS b JOIN service.zone AS e ON e.name = b.timezone AND e.name <> ''
            WHERE b.user_id = u.user_id AND b.since < u.since ORDER BY b.since DESC LIMIT 1),
           (SELECT r.timezone FROM service.recipient AS r WHERE r.id = u.user_id),
           service.default_zone()) AS timezone
FROM service.user_zone AS u
LEFT JOIN service.zone AS k ON service.zone_key(k.name) = service.zone_key(u.timezone) AND k.name <> ''
WHERE k.name IS DISTINCT FROM u.timezone OR (k.used <> u.timezone AND u.timezone NOT LIKE '%/%');
UPDATE service.user_zone AS u SET timezone = h.timezone FROM healed AS h WHERE u.user_id = h.user_id AND u.since = h.since;
DELETE FROM service.user_zone AS u
USING (SELECT user_id, since, timezone, lag(timezone) OVER (PARTITION BY user_id ORDER BY since) AS before
       FROM service.user_zone WHERE user_id IN (SELECT user_id FROM healed)) AS s
WHERE u.user_id = s.user_id AND u.since = s.since AND s.timezone = s.before;

-- People whose zone is none have the default until they are read again.
WITH known AS (
    SELECT u.id, k.used FROM service.users AS u
    LEFT JOIN service.zone AS k ON service.zone_key(k.name) = service.zone_key(u.timezone) AND k.name <> ''
    WHERE k.used IS DISTINCT FROM u.timezone
), again AS (
    UPDATE service.sync_state SET zones = NULL
    WHERE collection = 'users' AND EXISTS (SELECT FROM known WHERE used IS NULL)
)
UPDATE service.users AS u
SET timezone = coalesce(k.used, service.default_zone()), timezone_valid = u.timezone_valid AND k.used IS NOT NULL
FROM known AS k WHERE u.id = k.id;

-- Whoever chose what is no zone follows the dashboard.
UPDATE service.recipient_setting AS s SET timezone = k.name
FROM service.recipient_setting AS o
LEFT JOIN service.zone AS k ON service.zone_key(k.name) = service.zone_key(o.timezone) AND k.name <> ''
WHERE s.user_id = o.user_id AND k.name IS DISTINCT FROM s.timezone;

ALTER TABLE service.users ADD FOREIGN KEY (timezone) REFERENCES service.zone;
ALTER TABLE service.recipient_setting ADD FOREIGN KEY (timezone) REFERENCES service.zone;
ALTER TABLE service.user_zone ADD FOREIGN KEY (timezone) REFERENCES service.zone;

-- A name stays for ever. A former release deletes those that its PostgreSQL lacks.
CREATE FUNCTION service.keep_zone() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER keep BEFORE DELETE ON service.zone FOR EACH ROW EXECUTE FUNCTION service.keep_zone();

CREATE OR REPLACE VIEW service.recipient AS
SELECT u.id, u.name, u.email, coalesce(own.used, z.used) AS timezone, u.timezone_valid,
       coalesce(s.locale, u.locale) AS locale, u.active,
       CASE WHEN s.quiet_start IS NULL THEN u.preferences
            ELSE u.preferences || jsonb_build_object('quiet', jsonb_build_array(
                to_char(s.quiet_start, 'HH24:MI'), to_char(s.quiet_end, 'HH24:MI'))) END AS preferences,
       u.created_at, u.last_login_at, u.updated_at, coalesce(s.hours, '{}') AS hours, s.paused_until
FROM service.users AS u
LEFT JOIN service.recipient_setting AS s ON s.user_id = u.id
LEFT JOIN service.zone AS own ON own.name = s.timezone
LEFT JOIN service.zone AS z ON z.name = u.timezone;

-- What former releases counted by other offsets, those of PostgreSQL's data, is counted again.
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT a.user_id, d.day
FROM (SELECT user_id, started_at AS at FROM service.timer_sessions
      UNION ALL
      SELECT user_id, unnest(ARRAY[created_at, completed_at]) FROM service.goals) AS a
JOIN service.zone_span AS z ON z.user_id = a.user_id AND a.at >= z.since AND a.at < z.until
JOIN service.zone AS k ON k.name = z.timezone
JOIN pg_timezone_names AS p ON p.name = z.timezone
CROSS JOIN LATERAL (SELECT a.at AT TIME ZONE p.name AS former, service.local_time(a.at, k) AS local) AS c
CROSS JOIN LATERAL (VALUES (c.former::date), (c.local::date)) AS d (day)
WHERE c.former <> c.local
ON CONFLICT DO NOTHING;
