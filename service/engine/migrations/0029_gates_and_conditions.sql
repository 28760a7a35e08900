-- expand
-- Gates: what is stopped, by whom and why. Conditions: what is wrong now.

CREATE TABLE service.gate (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope     text        NOT NULL CHECK (scope IN ('all', 'job', 'kind', 'domain', 'relay', 'table', 'clock', 'schema')),
    name      text        NOT NULL DEFAULT '',   -- which job, kind, domain, …; '' where the scope says it all
    cause     text        NOT NULL CHECK (cause IN ('operator', 'absence', 'field', 'breaker', 'base_rate', 'clock', 'version')),
    since     timestamptz NOT NULL DEFAULT service.now(),
    until     timestamptz,                       -- it opens by itself then; NULL: it does not
    by        text        NOT NULL,              -- who shut it: a person, or a process
    details   jsonb       NOT NULL DEFAULT '{}',
    opened_at timestamptz,                       -- NULL: it is shut
    opened_by text
);
CREATE UNIQUE INDEX gate_shut ON service.gate (scope, name, cause) WHERE opened_at IS NULL;

-- The gates that are shut now. Few: claims read them all.
CREATE VIEW service.shut_gate AS
SELECT id, scope, name, cause, since, until, by, details FROM service.gate
WHERE opened_at IS NULL AND coalesce(until > service.now(), true);

-- Whether what the clock decides may be decided: the clock has not run away (it is before $1; NULL: unknown), and no gate says
-- that it had.
CREATE FUNCTION service.clock_trusted(latest timestamptz) RETURNS boolean LANGUAGE sql STABLE AS
$$SELECT service.now() <= coalesce(latest, 'infinity')
     AND NOT EXISTS (SELECT FROM service.gate WHERE scope = 'clock' AND opened_at IS NULL)$$;

-- What the dashboard lacks (service.dashboard_gap, which 0.1.1 goes on using), and what it lost, stop jobs and deletions.
INSERT INTO service.gate (scope, name, cause, since, by, details)
SELECT 'table', name, 'field', since, 'synchronisation', jsonb_build_object('said', said) FROM service.dashboard_gap
UNION ALL
SELECT 'table', collection, 'absence', lost_since, 'synchronisation', jsonb_build_object('of', lost_of)
FROM service.sync_state WHERE lost_since IS NOT NULL;

CREATE TABLE service.condition (
    key        text        NOT NULL,             -- what is wrong, e.g. run_without_progress
    subject    text        NOT NULL DEFAULT '',  -- of what: a job, a table, a process; '' where the key says it all
    severity   text        NOT NULL CHECK (severity IN ('problem', 'warning')),
    since      timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,             -- seen no more by then: it is over
    people     bigint,                           -- about how many people it concerns; NULL: unknown
    details    jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (key, subject)
);

ALTER TABLE service.job_run ADD COLUMN progressed_at timestamptz;   -- when it was claimed, or its cursor last moved
