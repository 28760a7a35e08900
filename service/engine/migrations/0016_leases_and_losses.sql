-- Leases on what only one process may do at a time, and rows that went missing at the dashboard in numbers.

-- A lease is free when its time is over. The epoch grows each time that it changes hands: whoever thaws later than
-- that finds another epoch, and writes nothing.
CREATE TABLE service.lease (
    name  text        PRIMARY KEY,
    owner text        NOT NULL,
    epoch bigint      NOT NULL,
    until timestamptz NOT NULL
);
INSERT INTO service.lease VALUES ('sync', '', 0, '-infinity');

ALTER TABLE service.sync_state
    ADD COLUMN fresh_at   timestamptz,   -- what was written at the dashboard before this is in the copy
    ADD COLUMN lost_since timestamptz,   -- more went missing in a day than is believed: nothing is deleted; NULL: no
    ADD COLUMN lost_of    bigint,        -- of so many rows
    ADD COLUMN lost_gone  bigint;        -- of them, so many had been deleted here within the day before that

-- What sweeps found, for the bound on what they delete in a day.
CREATE TABLE service.sweep (
    collection text        NOT NULL,     -- users | goals | timer_sessions
    at         timestamptz NOT NULL,
    held       bigint      NOT NULL,     -- rows of service.expected before it
    deleted    bigint      NOT NULL,     -- rows that it deleted: the dashboard had them no longer
    confirmed  bigint      NOT NULL,     -- rows that it deleted because somebody had confirmed their loss
    PRIMARY KEY (collection, at)
);

-- Rows that the dashboard lacks, and that the copy keeps until somebody confirms their loss or they are back.
CREATE TABLE service.missing_row (
    collection   text        NOT NULL,
    id           text        NOT NULL,
    since        timestamptz NOT NULL,
    confirmed_at timestamptz,            -- NULL: nobody did
    PRIMARY KEY (collection, id)
);

-- What the dashboard should have: the copy without the sessions that we archived ourselves.
CREATE VIEW service.expected AS
SELECT 'users' AS collection, id FROM service.users
UNION ALL
SELECT 'goals', id FROM service.goals
UNION ALL
SELECT 'timer_sessions', s.id FROM service.timer_sessions AS s
WHERE NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id);
