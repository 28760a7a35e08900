-- expand
-- Sessions of the console that were ended by signing out, until they would have expired. ``session`` is a hash.
CREATE TABLE service.ended_session (
    session    text        PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
