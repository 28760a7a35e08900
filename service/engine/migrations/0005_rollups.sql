-- Rollups: what people did, per user and local day, and for everybody per period. Rebuilt from the replica, never added to.

DROP TABLE service.stale_day;

-- (user, local day) whose rollup must be rebuilt. onward: what is counted from that day on for ever changed too (an
-- account came or went).
CREATE TABLE service.stale_day (
    user_id   text    NOT NULL,
    local_day date    NOT NULL,
    onward    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (user_id, local_day)
);

-- A day that is already stale is locked, not skipped: else its rebuild could commit between our row and our mark.
CREATE FUNCTION service.mark_stale(users text[], days date[], ever boolean DEFAULT false) RETURNS void LANGUAGE sql AS $$
    INSERT INTO service.stale_day AS t (user_id, local_day, onward)
    SELECT DISTINCT u, d, ever FROM unnest(users, days) AS k (u, d) WHERE u IS NOT NULL AND d IS NOT NULL ORDER BY u, d
    ON CONFLICT (user_id, local_day) DO UPDATE SET onward = t.onward OR excluded.onward
$$;

-- Zones as spans: valid from since (inclusive) to until (exclusive).
CREATE VIEW service.zone_span AS
SELECT user_id, since, timezone,
       coalesce(lead(since) OVER (PARTITION BY user_id ORDER BY since), 'infinity') AS until
FROM service.user_zone;

-- ── What makes a day stale ──────────────────────────────────────────────────────────────────────────────
-- Old and new versions both: a session that moved or vanished must leave its former day. A first load switches this
-- off (service.loading) and marks everything once, at its end.

CREATE FUNCTION service.loading() RETURNS boolean LANGUAGE sql STABLE AS
    $$SELECT coalesce(current_setting('service.loading', true), '') = 'on'$$;

CREATE FUNCTION service.sessions_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(r.user_id), array_agg((r.started_at AT TIME ZONE z.timezone)::date))
        FROM rows AS r CROSS JOIN LATERAL (SELECT service.zone_at(r.user_id, r.started_at) AS timezone) AS z;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER stale_of_new AFTER INSERT ON service.timer_sessions
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.sessions_touched();
CREATE TRIGGER stale_of_old AFTER DELETE ON service.timer_sessions
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.sessions_touched();
CREATE TRIGGER stale_of_edited AFTER UPDATE ON service.timer_sessions
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.sessions_touched();
CREATE TRIGGER stale_of_former AFTER UPDATE ON service.timer_sessions
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.sessions_touched();

CREATE FUNCTION service.goals_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(r.user_id),
                                   array_agg((t.at AT TIME ZONE service.zone_at(r.user_id, t.at))::date))
        FROM rows AS r CROSS JOIN LATERAL unnest(ARRAY[r.created_at, r.completed_at]) AS t (at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER stale_of_new AFTER INSERT ON service.goals
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.goals_touched();
CREATE TRIGGER stale_of_old AFTER DELETE ON service.goals
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.goals_touched();
-- Progress and wording of a goal are counted nowhere.
CREATE FUNCTION service.goals_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(t.user_id),
                                   array_agg((t.at AT TIME ZONE service.zone_at(t.user_id, t.at))::date))
        FROM former AS o JOIN rows AS n USING (id)
        CROSS JOIN LATERAL (VALUES (o.user_id, o.created_at), (o.user_id, o.completed_at),
                                   (n.user_id, n.created_at), (n.user_id, n.completed_at)) AS t (user_id, at)
        WHERE (o.user_id, o.open, o.created_at, o.completed_at)
              IS DISTINCT FROM (n.user_id, n.open, n.created_at, n.completed_at);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER stale_of_edited AFTER UPDATE ON service.goals
    REFERENCING OLD TABLE AS former NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.goals_edited();

-- An account that comes, goes or changes its date of birth changes every total since.
CREATE FUNCTION service.accounts_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(r.id), array_agg(service.counts_from(r.id, r.created_at)), true) FROM rows AS r;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION service.accounts_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(o.id) || array_agg(o.id),
                                   array_agg(service.counts_from(o.id, o.created_at))
                                   || array_agg(service.counts_from(o.id, n.created_at)), true)
        FROM former AS o JOIN rows AS n USING (id) WHERE o.created_at IS DISTINCT FROM n.created_at;
    END IF;
    RETURN NULL;
END $$;

-- The local date on which an account was made, in the first zone that is known of its owner.
CREATE FUNCTION service.signup_day(wanted text, created timestamptz) RETURNS date LANGUAGE sql STABLE AS
    $$SELECT (created AT TIME ZONE coalesce(service.zone_at(wanted, created), 'UTC'))::date$$;

-- Named to fire after users_came, which notes the zone.
CREATE TRIGGER users_stale_of_new AFTER INSERT ON service.users
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.accounts_touched();
CREATE TRIGGER users_stale_of_old AFTER DELETE ON service.users
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.accounts_touched();
CREATE TRIGGER users_stale_of_edited AFTER UPDATE ON service.users
    REFERENCING OLD TABLE AS former NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.accounts_edited();

-- A zone that becomes known (or is corrected) moves the sessions and goals that it holds for to other days. What lay on
-- days by the former zone is found by the rollup's own rows.
CREATE FUNCTION service.zones_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF service.loading() THEN RETURN NULL; END IF;
    PERFORM service.mark_stale(array_agg(t.user_id), array_agg((t.at AT TIME ZONE t.timezone)::date))
    FROM (SELECT r.user_id, r.timezone, s.started_at AS at
          FROM rows AS r JOIN service.timer_sessions AS s ON s.user_id = r.user_id AND s.started_at >= r.since
          UNION ALL
          SELECT r.user_id, r.timezone, a.at
          FROM rows AS r JOIN service.goals AS g ON g.user_id = r.user_id
          CROSS JOIN LATERAL unnest(ARRAY[g.created_at, g.completed_at]) AS a (at) WHERE a.at >= r.since) AS t;
    PERFORM service.mark_stale(array_agg(d.user_id), array_agg(d.local_date))
    FROM rows AS r JOIN service.user_day AS d ON d.user_id = r.user_id
     AND (r.since = '-infinity' OR d.local_date >= (r.since - interval '1 day')::date);
    RETURN NULL;
END $$;
CREATE TRIGGER stale_of_new AFTER INSERT ON service.user_zone
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_touched();
CREATE TRIGGER stale_of_edited AFTER UPDATE ON service.user_zone
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.zones_touched();

CREATE INDEX timer_sessions_started ON service.timer_sessions (started_at);     -- service days, windows
CREATE INDEX goals_created ON service.goals (created_at);
CREATE INDEX goals_completed ON service.goals (completed_at) WHERE completed_at IS NOT NULL;

-- ── The rollups ─────────────────────────────────────────────────────────────────────────────────────────

-- One row per user and local date on which something happened; a date without anything has no row.
CREATE TABLE service.user_day (
    user_id         text NOT NULL,
    local_date      date NOT NULL,
    started         int  NOT NULL,               -- sessions of any kind started; > 0: an active day
    focus_seconds   int  NOT NULL,               -- credited focus of the focus sessions started on this date
    completed       int  NOT NULL,               -- focus sessions, by what became of them
    cancelled       int  NOT NULL,
    abandoned       int  NOT NULL,
    breaks          int  NOT NULL,               -- sessions that are not focus
    tagged          int  NOT NULL,               -- sessions with tags
    linked          int  NOT NULL,               -- sessions that belong to a goal
    rated           int  NOT NULL,
    rating_sum      int  NOT NULL,
    goals_created   int  NOT NULL,
    goals_completed int  NOT NULL,
    kinds           jsonb NOT NULL,              -- kind -> [started, completed, credited seconds]
    hours           jsonb NOT NULL,              -- local hour -> focus seconds, split at the hour in proportion
    PRIMARY KEY (user_id, local_date)
);
CREATE INDEX user_day_date ON service.user_day (local_date, user_id)
    INCLUDE (started, focus_seconds, completed);

-- First and last active date of everybody who ever had one. The first is somebody's cohort.
CREATE TABLE service.user_span (
    user_id    text PRIMARY KEY,
    first_date date NOT NULL,
    last_date  date NOT NULL
);
CREATE INDEX user_span_first ON service.user_span (first_date);

-- One row per statistic and period. period: its start, wall-clock time of the statistic's calendar (daily: the service
-- zone; weekly and monthly: local dates; behaviour and performance: UTC).
CREATE TABLE service.rollup (
    statistic   text        NOT NULL,
    period      timestamp   NOT NULL,
    figures     jsonb       NOT NULL,
    final       boolean     NOT NULL,            -- its last date is over in every zone
    revision    int         NOT NULL DEFAULT 1,
    computed_at timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (statistic, period)
);
CREATE INDEX rollup_provisional ON service.rollup (statistic, period) WHERE NOT final;

-- What a figure was before it was revised.
CREATE TABLE service.rollup_revision (
    statistic   text        NOT NULL,
    period      timestamp   NOT NULL,
    revision    int         NOT NULL,
    figures     jsonb       NOT NULL,
    computed_at timestamptz NOT NULL,
    replaced_at timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (statistic, period, revision)
);

-- Every period up to and including through has its row. working: the last period of the batch at hand (STARTED); found
-- again after a crash, it is undone and redone.
CREATE TABLE service.watermark (
    statistic  text PRIMARY KEY,
    through    timestamp,
    working    timestamp,
    updated_at timestamptz NOT NULL DEFAULT service.now()
);

-- Periods up to the watermark that must be derived again.
CREATE TABLE service.stale_period (
    statistic text      NOT NULL,
    period    timestamp NOT NULL,
    PRIMARY KEY (statistic, period)
);

-- The date from which an account changes totals: of its signup; where nobody knows it, of the first month there is.
CREATE FUNCTION service.counts_from(wanted text, created timestamptz) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT coalesce(service.signup_day(wanted, created),
                    (SELECT min(period)::date FROM service.rollup WHERE statistic = 'monthly'))
$$;
