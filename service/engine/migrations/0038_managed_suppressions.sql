-- expand
-- Suppressions have numbers, by which they are listed and lifted. How many mails were reported as spam is counted, and stops
-- nudges.

CREATE SEQUENCE service.suppression_id;
ALTER TABLE service.suppression ADD COLUMN id bigint NOT NULL DEFAULT nextval('service.suppression_id');
ALTER TABLE service.suppressed_key ADD COLUMN id bigint NOT NULL DEFAULT nextval('service.suppression_id');
CREATE UNIQUE INDEX suppression_number ON service.suppression (id);
CREATE UNIQUE INDEX suppressed_key_number ON service.suppressed_key (id);
CREATE INDEX suppression_prefix ON service.suppression (address COLLATE "C");

ALTER TABLE service.gate DROP CONSTRAINT gate_cause_check;
ALTER TABLE service.gate ADD CONSTRAINT gate_cause_check
    CHECK (cause IN ('operator', 'absence', 'field', 'breaker', 'base_rate', 'clock', 'version', 'complaints'));

-- Mails of the last 30 days, and those of them that were reported as spam. At most 20 domains; 'other': all the rest.
CREATE TABLE service.complaint_rate (
    kind       text   NOT NULL,
    domain     text   NOT NULL,
    sent       bigint NOT NULL,
    complaints bigint NOT NULL,
    PRIMARY KEY (kind, domain)
);

-- When that was counted; whoever updates its only row counts.
CREATE TABLE service.complaint_count (
    one        boolean     PRIMARY KEY DEFAULT true CHECK (one),
    counted_at timestamptz NOT NULL
);
INSERT INTO service.complaint_count (counted_at) VALUES ('-infinity');
