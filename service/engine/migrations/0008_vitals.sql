-- How each process is doing, as it told with its last sign of life; and what is wrong for hours.

ALTER TABLE service.replica ADD COLUMN vitals jsonb NOT NULL DEFAULT '{}';

CREATE TABLE service.alert (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        NOT NULL,
    raised_at  timestamptz NOT NULL DEFAULT service.now(),
    cleared_at timestamptz,
    detail     text        NOT NULL
);
CREATE UNIQUE INDEX alert_open ON service.alert (name) WHERE cleared_at IS NULL;     -- raised once
