-- expand
-- A gate that a breaker shut is tried again by one process at a time, at growing intervals.

ALTER TABLE service.gate
    ADD COLUMN probes   int NOT NULL DEFAULT 0,   -- how many in a row showed that it must stay shut
    ADD COLUMN probe_at timestamptz;              -- when the next may be sent; NULL: none is

CREATE OR REPLACE VIEW service.shut_gate AS
SELECT id, scope, name, cause, since, until, by, details, probes, probe_at FROM service.gate
WHERE opened_at IS NULL AND coalesce(until > service.now(), true);
