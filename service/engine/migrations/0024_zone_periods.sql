-- Local time from zone data of our own: PostgreSQL's is asked for nothing any more.

-- The offsets of each name's zone over time: offsets[n], in seconds ahead of UTC, holds from starts[n] (the first:
-- -infinity) to starts[n + 1] (there is none: for ever). Filled at the start from the data that the process computes
-- with (zone_table); for the first time in the transaction of this migration. A former release writes name and used.
ALTER TABLE service.zone
    ADD COLUMN starts  timestamptz[] NOT NULL DEFAULT '{-infinity}',
    ADD COLUMN offsets int[]         NOT NULL DEFAULT '{0}',
    ALTER COLUMN starts SET STORAGE PLAIN,      -- compressed, they would be unpacked for every instant
    ALTER COLUMN offsets SET STORAGE PLAIN;

CREATE TABLE service.zone_data (
    version text NOT NULL                       -- of the data, like 2026f
);
CREATE UNIQUE INDEX zone_data_one_row ON service.zone_data ((true));

-- The periods of a zone as rows.
CREATE VIEW service.zone_period AS
SELECT z.name AS zone, z.starts[i] AS utc_from, coalesce(z.starts[i + 1], 'infinity') AS utc_to, z.offsets[i] AS offset_s
FROM service.zone AS z CROSS JOIN LATERAL generate_subscripts(z.starts, 1) AS i;

-- Those that overlap [since, until].
CREATE FUNCTION service.zone_periods(z service.zone, since timestamptz, until timestamptz)
RETURNS TABLE (utc_from timestamptz, utc_to timestamptz, ahead interval) LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1 AS $$
    SELECT z.starts[i], coalesce(z.starts[i + 1], 'infinity'), z.offsets[i] * interval '1 second'
    FROM generate_series(width_bucket(since, z.starts), width_bucket(until, z.starts)) AS i
$$;

-- The wall-clock time of an instant. One expression, which the planner puts into the asking query.
CREATE FUNCTION service.local_time(at timestamptz, z service.zone) RETURNS timestamp LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$SELECT at AT TIME ZONE 'UTC' + z.offsets[width_bucket(at, z.starts)] * interval '1 second'$$;

-- The wall-clock time of an instant where somebody lived then; NULL where that is not known.
CREATE FUNCTION service.user_time(wanted text, at timestamptz) RETURNS timestamp LANGUAGE sql STABLE AS $$
    SELECT service.local_time(at, k)
    FROM (SELECT timezone FROM service.user_zone WHERE user_id = wanted AND since <= at ORDER BY since DESC LIMIT 1) AS u
    JOIN service.zone AS k ON k.name = u.timezone
$$;

-- ── What read local time by PostgreSQL's data ────────────────────────────────────────────────────────────

CREATE OR REPLACE VIEW service.local_session AS
SELECT s.id, s.user_id, s.goal_id, s.kind, s.focus, s.status, s.started_at, s.ended_at, s.paused_at, s.planned_seconds,
       s.focus_seconds, s.category, s.tags, s.rating, s.updated_at, k.used AS timezone,
       service.local_time(s.started_at, k) AS local_start, service.local_time(s.started_at, k)::date AS local_day
FROM service.timer_sessions AS s
CROSS JOIN LATERAL (
    SELECT timezone FROM service.user_zone
    WHERE user_id = s.user_id AND since <= s.started_at ORDER BY since DESC LIMIT 1) AS z
JOIN service.zone AS k ON k.name = z.timezone;

CREATE OR REPLACE VIEW service.zone_span AS
SELECT u.user_id, u.since, k.used AS timezone,
       coalesce(lead(u.since) OVER (PARTITION BY u.user_id ORDER BY u.since), 'infinity') AS until,
       service.local_time(u.since, k)::date AS since_date
FROM service.user_zone AS u JOIN service.zone AS k ON k.name = u.timezone;

CREATE OR REPLACE FUNCTION service.signup_day(wanted text, created timestamptz) RETURNS date LANGUAGE sql STABLE AS
    $$SELECT coalesce(service.user_time(wanted, created)::date, (created AT TIME ZONE 'UTC')::date)$$;

CREATE OR REPLACE FUNCTION service.sessions_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(r.user_id), array_agg(service.user_time(r.user_id, r.started_at)::date)) FROM rows AS r;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION service.sessions_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(t.user_id), array_agg(service.user_time(t.user_id, t.started_at)::date))
        FROM former AS o JOIN rows AS n USING (id)
        CROSS JOIN LATERAL (VALUES (o.user_id, o.started_at), (n.user_id, n.started_at)) AS t (user_id, started_at)
        WHERE (to_jsonb(o) - ARRAY['updated_at', 'digest']) IS DISTINCT FROM (to_jsonb(n) - ARRAY['updated_at', 'digest']);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION service.goals_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(r.user_id), array_agg(service.user_time(r.user_id, t.at)::date))
        FROM rows AS r CROSS JOIN LATERAL unnest(ARRAY[r.created_at, r.completed_at]) AS t (at);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION service.goals_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(t.user_id), array_agg(service.user_time(t.user_id, t.at)::date))
        FROM former AS o JOIN rows AS n USING (id)
        CROSS JOIN LATERAL (VALUES (o.user_id, o.created_at), (o.user_id, o.completed_at),
                                   (n.user_id, n.created_at), (n.user_id, n.completed_at)) AS t (user_id, at)
        WHERE (o.user_id, o.open, o.created_at, o.completed_at)
              IS DISTINCT FROM (n.user_id, n.open, n.created_at, n.completed_at);
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION service.zones_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF service.loading() THEN RETURN NULL; END IF;
    PERFORM service.mark_stale(array_agg(r.user_id), array_agg(service.local_time(t.at, k)::date))
    FROM rows AS r JOIN service.zone AS k ON k.name = r.timezone
    CROSS JOIN LATERAL (
        SELECT s.started_at AS at FROM service.timer_sessions AS s WHERE s.user_id = r.user_id
        UNION ALL
        SELECT unnest(ARRAY[g.created_at, g.completed_at]) FROM service.goals AS g WHERE g.user_id = r.user_id) AS t
    WHERE t.at >= r.since;
    PERFORM service.mark_stale(array_agg(d.user_id), array_agg(d.local_date))
    FROM rows AS r JOIN service.user_day AS d ON d.user_id = r.user_id
     AND (r.since = '-infinity' OR d.local_date >= (r.since AT TIME ZONE 'UTC' - interval '1 day')::date);
    RETURN NULL;
END $$;
