-- What the dashboard lacks of the tables and fields that jobs rest on, as the last synchronisation found it. Every
-- process reads it before a run, whichever of them synchronised.
CREATE TABLE service.dashboard_gap (
    name  text        PRIMARY KEY,                 -- a canonical table or field: goals, users.email
    said  text        NOT NULL,                    -- in a sentence, for people
    since timestamptz NOT NULL DEFAULT service.now()
);
