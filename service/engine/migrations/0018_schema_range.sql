-- Which releases may work with this database. A release knows a schema by the number of its newest migration.
-- A later migration that an older release could not read (or write beside) safely raises readable_from (or
-- writable_from) itself, with an UPDATE; one that only adds things leaves both as they are.

CREATE TABLE service.schema_range (
    version       int NOT NULL,                  -- the newest migration applied; set by the migrator
    readable_from int NOT NULL,                  -- the oldest schema that a release must know to read here
    writable_from int NOT NULL,                  -- and to write here: claim, decide slots, send, copy the dashboard
    CHECK (readable_from <= writable_from)
);
CREATE UNIQUE INDEX schema_range_one_row ON service.schema_range ((true));
INSERT INTO service.schema_range (version, readable_from, writable_from) VALUES (18, 14, 14);

-- Whether a release that knows this schema may write. Every claim asks it, of all releases from now on: keep it.
CREATE FUNCTION service.fits(known int) RETURNS boolean LANGUAGE sql STABLE AS
$$SELECT NOT EXISTS (SELECT FROM service.schema_range WHERE writable_from > known)$$;

ALTER TABLE service.replica ADD COLUMN schema int;   -- the newest schema that the process knows; NULL: it does not tell
