-- Zones: what SQL reads as somebody's zone is always one that it can compute with.

-- The zone by which PostgreSQL computes for a name, filled at every start with what Python and this PostgreSQL both know
-- (store.zones). The row '' is the zone of whoever has none (DEFAULT_TIMEZONE). What is stored beside it (users,
-- recipient_setting, user_zone) may be any text: a former name, or none at all; it is read through this table.
CREATE TABLE service.zone (
    name text PRIMARY KEY,       -- as IANA spells it
    used text NOT NULL           -- the same zone under a name that PostgreSQL knows
);
CREATE FUNCTION service.zone_key(name text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT lower(btrim(name, E' \t\n\v\f\r'))$$;
CREATE UNIQUE INDEX zone_any_case ON service.zone (service.zone_key(name));
INSERT INTO service.zone SELECT name, name FROM pg_timezone_names
WHERE name !~ '^(posix|right)/' AND name NOT IN ('localtime', 'posixrules', 'Factory')
UNION ALL VALUES ('', 'UTC');

-- Asked only where a name is unknown.
CREATE FUNCTION service.default_zone() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
    AS $$SELECT coalesce((SELECT used FROM service.zone WHERE name = ''), 'UTC')$$;

CREATE OR REPLACE VIEW service.recipient AS
SELECT u.id, u.name, u.email, coalesce(own.used, z.used, service.default_zone()) AS timezone, u.timezone_valid,
       coalesce(s.locale, u.locale) AS locale, u.active,
       CASE WHEN s.quiet_start IS NULL THEN u.preferences
            ELSE u.preferences || jsonb_build_object('quiet', jsonb_build_array(
                to_char(s.quiet_start, 'HH24:MI'), to_char(s.quiet_end, 'HH24:MI'))) END AS preferences,
       u.created_at, u.last_login_at, u.updated_at, coalesce(s.hours, '{}') AS hours, s.paused_until
FROM service.users AS u
LEFT JOIN service.recipient_setting AS s ON s.user_id = u.id
LEFT JOIN service.zone AS own ON service.zone_key(own.name) = service.zone_key(s.timezone) AND own.name <> ''
LEFT JOIN service.zone AS z ON service.zone_key(z.name) = service.zone_key(u.timezone);

-- ── Zones over time ─────────────────────────────────────────────────────────────────────────────────────
-- user_zone is written by note_zones only, in IANA's spelling, so that it can be compared as it is.

CREATE OR REPLACE FUNCTION service.zone_at(wanted text, at timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(z.used, service.default_zone())
    FROM (SELECT timezone FROM service.user_zone WHERE user_id = wanted AND since <= at ORDER BY since DESC LIMIT 1) AS u
    LEFT JOIN service.zone AS z ON z.name = u.timezone
$$;

-- Another name for the same zone is no move.
CREATE OR REPLACE FUNCTION service.note_zones(wanted text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO service.user_zone AS z (user_id, since, timezone)
    SELECT r.id, CASE WHEN known.timezone IS NULL THEN '-infinity' ELSE service.now() END, r.timezone
    FROM service.recipient AS r
    LEFT JOIN LATERAL (SELECT timezone FROM service.user_zone WHERE user_id = r.id ORDER BY since DESC LIMIT 1)
        AS known ON true
    LEFT JOIN service.zone AS k ON k.name = known.timezone
    WHERE r.id = ANY (wanted) AND coalesce(k.used, known.timezone) IS DISTINCT FROM r.timezone
    ON CONFLICT (user_id, since) DO UPDATE SET timezone = excluded.timezone
$$;

CREATE OR REPLACE VIEW service.local_session AS
SELECT s.*, coalesce(k.used, service.default_zone()) AS timezone,
       s.started_at AT TIME ZONE coalesce(k.used, service.default_zone()) AS local_start,
       (s.started_at AT TIME ZONE coalesce(k.used, service.default_zone()))::date AS local_day
FROM service.timer_sessions AS s
CROSS JOIN LATERAL (
    SELECT timezone FROM service.user_zone
    WHERE user_id = s.user_id AND since <= s.started_at ORDER BY since DESC LIMIT 1) AS z
LEFT JOIN service.zone AS k ON k.name = z.timezone;

CREATE OR REPLACE VIEW service.zone_span AS
SELECT u.user_id, u.since, coalesce(z.used, service.default_zone()) AS timezone,
       coalesce(lead(u.since) OVER (PARTITION BY u.user_id ORDER BY u.since), 'infinity') AS until
FROM service.user_zone AS u LEFT JOIN service.zone AS z ON z.name = u.timezone;

CREATE OR REPLACE FUNCTION service.zones_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF service.loading() THEN RETURN NULL; END IF;
    PERFORM service.mark_stale(array_agg(t.user_id), array_agg((t.at AT TIME ZONE t.timezone)::date))
    FROM (SELECT r.user_id, coalesce(z.used, service.default_zone()) AS timezone, s.started_at AS at
          FROM rows AS r LEFT JOIN service.zone AS z ON z.name = r.timezone
          JOIN service.timer_sessions AS s ON s.user_id = r.user_id AND s.started_at >= r.since
          UNION ALL
          SELECT r.user_id, coalesce(z.used, service.default_zone()), a.at
          FROM rows AS r LEFT JOIN service.zone AS z ON z.name = r.timezone
          JOIN service.goals AS g ON g.user_id = r.user_id
          CROSS JOIN LATERAL unnest(ARRAY[g.created_at, g.completed_at]) AS a (at) WHERE a.at >= r.since) AS t;
    PERFORM service.mark_stale(array_agg(d.user_id), array_agg(d.local_date))
    FROM rows AS r JOIN service.user_day AS d ON d.user_id = r.user_id
     AND (r.since = '-infinity' OR d.local_date >= (r.since - interval '1 day')::date);
    RETURN NULL;
END $$;

-- By which zones the users were read (a digest); where it differs, those whose zone was not known are read again.
ALTER TABLE service.sync_state ADD COLUMN zones text;
