-- In-app notifications that are written into the dashboard's own inbox (IN_APP=dashboard).

ALTER TABLE service.notification
    ADD COLUMN write_at     timestamptz,   -- when to write it there (again); NULL: nothing to write, or no longer
    ADD COLUMN delivered_at timestamptz,   -- when the dashboard had it
    ADD COLUMN withdrawn_at timestamptz;   -- what it said no longer held; its delivery says why
CREATE INDEX notification_write ON service.notification (write_at, id) WHERE write_at IS NOT NULL;
