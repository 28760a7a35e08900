-- Two-way comparison of the copy with the dashboard: every row has a digest of what was read, and the time of writing
-- decides nothing any more.

ALTER TABLE service.users ADD COLUMN digest bigint;             -- of the row as it was read; NULL: read by a former release
ALTER TABLE service.goals ADD COLUMN digest bigint;
ALTER TABLE service.timer_sessions ADD COLUMN digest bigint;

-- What a comparison under way has read of the dashboard so far, and what it found. After a crash of the server both are
-- empty, and the number of rows in sync_state says so.
CREATE UNLOGGED TABLE service.staged_row (
    collection text   NOT NULL,                                 -- users | goals | timer_sessions
    id         text   NOT NULL,
    digest     bigint NOT NULL
);
CREATE INDEX staged_row_id ON service.staged_row (collection, id);
CREATE UNLOGGED TABLE service.different_row (
    collection text    NOT NULL,
    id         text    NOT NULL,
    missing    boolean NOT NULL,                                -- the copy has it, the dashboard does not; else read it again
    to_delete  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (collection, id)
);

ALTER TABLE service.sync_state
    ADD COLUMN pass_after  text,          -- position of the comparison under way; NULL: there is none
    ADD COLUMN pass_rows   bigint NOT NULL DEFAULT 0,           -- rows staged by it
    ADD COLUMN pass_since  timestamptz,   -- it is about sessions that started since then; NULL: about all rows
    ADD COLUMN pass_spent  interval NOT NULL DEFAULT '0',       -- time spent on it so far
    ADD COLUMN pass_lasted interval,      -- how long the last whole one took
    ADD COLUMN recent_at   timestamptz;   -- when the sessions of the last days were compared

-- An edit that leaves what is counted as it was (a new time of writing) makes no day stale.
CREATE FUNCTION service.sessions_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(t.user_id),
                                   array_agg((t.started_at AT TIME ZONE service.zone_at(t.user_id, t.started_at))::date))
        FROM former AS o JOIN rows AS n USING (id)
        CROSS JOIN LATERAL (VALUES (o.user_id, o.started_at), (n.user_id, n.started_at)) AS t (user_id, started_at)
        WHERE (to_jsonb(o) - ARRAY['updated_at', 'digest']) IS DISTINCT FROM (to_jsonb(n) - ARRAY['updated_at', 'digest']);
    END IF;
    RETURN NULL;
END $$;
DROP TRIGGER stale_of_former ON service.timer_sessions;
DROP TRIGGER stale_of_edited ON service.timer_sessions;
CREATE TRIGGER stale_of_edited AFTER UPDATE ON service.timer_sessions
    REFERENCING OLD TABLE AS former NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.sessions_edited();

-- What the dashboard should have: the copy without the sessions that we archived ourselves.
CREATE OR REPLACE VIEW service.expected AS
SELECT 'users' AS collection, id, digest, NULL::timestamptz AS started_at FROM service.users
UNION ALL
SELECT 'goals', id, digest, NULL FROM service.goals
UNION ALL
SELECT 'timer_sessions', s.id, s.digest, s.started_at FROM service.timer_sessions AS s
WHERE NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id);
