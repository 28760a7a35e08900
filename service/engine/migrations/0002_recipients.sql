-- What recipients decide beyond on and off, where they were when, and what each session's day was for them.

CREATE TABLE service.recipient_setting (
    user_id      text PRIMARY KEY,
    timezone     text,                        -- valid IANA name; NULL: the dashboard's
    locale       text,
    quiet_start  time,                        -- start = end: no quiet hours, whatever the dashboard says
    quiet_end    time,
    hours        jsonb       NOT NULL DEFAULT '{}',   -- kind -> whole hour of the day
    paused_until timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT service.now(),
    CHECK ((quiet_start IS NULL) = (quiet_end IS NULL))
);

-- People as jobs see them: the dashboard's word, and over it their own.
CREATE VIEW service.recipient AS
SELECT u.id, u.name, u.email, coalesce(s.timezone, u.timezone) AS timezone, u.timezone_valid,
       coalesce(s.locale, u.locale) AS locale, u.active,
       CASE WHEN s.quiet_start IS NULL THEN u.preferences
            ELSE u.preferences || jsonb_build_object('quiet', jsonb_build_array(
                to_char(s.quiet_start, 'HH24:MI'), to_char(s.quiet_end, 'HH24:MI'))) END AS preferences,
       u.created_at, u.last_login_at, u.updated_at, coalesce(s.hours, '{}') AS hours, s.paused_until
FROM service.users AS u LEFT JOIN service.recipient_setting AS s ON s.user_id = u.id;

-- Whose slot is whose: the zone, and the hour where somebody chose one for this kind (Europe/Berlin@7).
CREATE FUNCTION service.slot_group(timezone text, hours jsonb, kind text) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$SELECT timezone || coalesce('@' || (hours ->> kind), '')$$;

-- ── Zones over time ─────────────────────────────────────────────────────────────────────────────────────

-- The zone that was valid from an instant on; the first row of everybody starts at -infinity.
CREATE TABLE service.user_zone (
    user_id  text        NOT NULL,
    since    timestamptz NOT NULL,
    timezone text        NOT NULL,
    PRIMARY KEY (user_id, since)
);
INSERT INTO service.user_zone SELECT id, '-infinity', timezone FROM service.users;

CREATE FUNCTION service.zone_at(wanted text, at timestamptz) RETURNS text LANGUAGE sql STABLE
    AS $$SELECT timezone FROM service.user_zone WHERE user_id = wanted AND since <= at ORDER BY since DESC LIMIT 1$$;

CREATE FUNCTION service.note_zones(wanted text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO service.user_zone AS z (user_id, since, timezone)
    SELECT r.id, CASE WHEN known.timezone IS NULL THEN '-infinity' ELSE service.now() END, r.timezone
    FROM service.recipient AS r
    LEFT JOIN LATERAL (SELECT timezone FROM service.user_zone WHERE user_id = r.id ORDER BY since DESC LIMIT 1)
        AS known ON true
    WHERE r.id = ANY (wanted) AND known.timezone IS DISTINCT FROM r.timezone
    ON CONFLICT (user_id, since) DO UPDATE SET timezone = excluded.timezone
$$;

CREATE FUNCTION service.zones_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        PERFORM service.note_zones(array_agg(id)) FROM rows HAVING count(*) > 0;
    ELSE
        PERFORM service.note_zones(array_agg(user_id)) FROM rows HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER users_came AFTER INSERT ON service.users
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_changed();
CREATE TRIGGER users_moved AFTER UPDATE ON service.users
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_changed();
CREATE TRIGGER settings_came AFTER INSERT ON service.recipient_setting
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_changed();
CREATE TRIGGER settings_moved AFTER UPDATE ON service.recipient_setting
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_changed();

-- Sessions with their local start, in the zone that was valid then. A session belongs to the date it starts on.
CREATE VIEW service.local_session AS
SELECT s.*, z.timezone, s.started_at AT TIME ZONE z.timezone AS local_start,
       (s.started_at AT TIME ZONE z.timezone)::date AS local_day
FROM service.timer_sessions AS s
CROSS JOIN LATERAL (
    SELECT timezone FROM service.user_zone
    WHERE user_id = s.user_id AND since <= s.started_at ORDER BY since DESC LIMIT 1) AS z;

-- When somebody last did something: a session, a goal, or a login later than the one of the signup.
CREATE FUNCTION service.last_activity(wanted text, until timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT max(at) FROM (
        SELECT unnest(ARRAY[s.started_at, s.ended_at, s.updated_at]) AS at
        FROM service.timer_sessions AS s WHERE s.user_id = wanted AND s.started_at <= until
        UNION ALL
        SELECT unnest(ARRAY[g.updated_at, g.completed_at]) FROM service.goals AS g WHERE g.user_id = wanted
        UNION ALL
        SELECT u.last_login_at FROM service.users AS u
        WHERE u.id = wanted AND u.last_login_at > coalesce(u.created_at, '-infinity') + interval '60 seconds'
    ) AS acts WHERE at <= until
$$;

-- ── Deliveries: what the contact budget counts ──────────────────────────────────────────────────────────

CREATE INDEX delivery_contact ON service.delivery (user_id, local_date, kind, channel);
