-- The archive: which files hold the old sessions of the dashboard, how far each has come, and which sessions are
-- nowhere else any more. The canonical rows stay in timer_sessions, so that streaks, reports and late data stay right.

-- planned: somebody is writing it. written: it lies in the folder. verified: it was read back, and its manifest lies
-- beside it; the dashboard's rows may go. deleted: they are gone.
CREATE TABLE service.archive_file (
    collection   text        NOT NULL,
    month        date        NOT NULL,             -- first day of the month (UTC) in which the sessions ended
    generation   int         NOT NULL,             -- grows each time that the month is written anew
    state        text        NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'written', 'verified', 'deleted')),
    rows         bigint      NOT NULL DEFAULT 0,
    bytes        bigint      NOT NULL DEFAULT 0,
    row_hash     text,
    file_hash    text,
    fresh_groups int         NOT NULL DEFAULT 0,   -- the first row groups: what this generation adds
    removed      int         NOT NULL DEFAULT 0,   -- of these, how many are gone from the dashboard
    leftovers    bigint      NOT NULL DEFAULT 0,   -- rows that were edited before they could go: to be written out again
    changed_at   timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (collection, month, generation)
);

-- Sessions that the dashboard may lack because we removed them. Noted before they are removed.
CREATE TABLE service.archived_session (
    id      text PRIMARY KEY,
    user_id text NOT NULL,
    month   date NOT NULL                          -- names the file
);
CREATE INDEX archived_session_user ON service.archived_session (user_id);
CREATE INDEX archived_session_month ON service.archived_session (month);

CREATE INDEX timer_sessions_ended ON service.timer_sessions (ended_at)
    WHERE status IN ('completed', 'cancelled', 'abandoned');
CREATE INDEX delivery_planned ON service.delivery USING brin (planned_at);

-- What may go into the archive, whatever its age: over, not there yet, on a day that no rollup has still to read. A
-- local date differs from the one in UTC by a day at most. Without dailyAnalytics nothing may go.
CREATE VIEW service.archivable AS
SELECT s.id, s.user_id, s.ended_at
FROM service.timer_sessions AS s
WHERE s.status IN ('completed', 'cancelled', 'abandoned') AND s.ended_at IS NOT NULL
  AND s.started_at < (SELECT (through - interval '1 day') AT TIME ZONE 'UTC'
                      FROM service.watermark WHERE statistic = 'daily')
  AND NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id)
  AND NOT EXISTS (SELECT FROM service.stale_day AS d WHERE d.user_id = s.user_id
                  AND d.local_day BETWEEN (s.started_at AT TIME ZONE 'UTC')::date - 1
                                      AND (s.started_at AT TIME ZONE 'UTC')::date + 1);

-- ── Erasure of a person ─────────────────────────────────────────────────────────────────────────────────

-- Keys of this service's own making; whoever lacks them cannot tell from a tombstone whose it is.
CREATE TABLE service.secret (
    name  text  PRIMARY KEY,
    value bytea NOT NULL
);
INSERT INTO service.secret
SELECT 'erasure', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

CREATE FUNCTION service.keyed_hash(said text) RETURNS bytea LANGUAGE sql STABLE AS
    $$SELECT sha256(value || sha256(value || convert_to(said, 'UTF8'))) FROM service.secret WHERE name = 'erasure'$$;

-- Who was erased: no synchronisation brings them back.
CREATE TABLE service.erased (
    user_key  bytea       PRIMARY KEY,             -- keyed_hash of the user's id
    erased_at timestamptz NOT NULL DEFAULT service.now()
);

-- Suppressed addresses of erased people: still not written to.
CREATE TABLE service.suppressed_key (
    address_key bytea       PRIMARY KEY,           -- keyed_hash of the address in lower case
    reason      text        NOT NULL,
    created_at  timestamptz NOT NULL
);

-- Figures that had counted somebody who was erased: they stay as they are, and are never derived again.
ALTER TABLE service.rollup ADD COLUMN frozen boolean NOT NULL DEFAULT false;
