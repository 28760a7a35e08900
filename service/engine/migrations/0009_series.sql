-- Series that the detector watches: what it remembers of each, every point with its expected range, and anomalies.

CREATE TABLE service.series (
    name    text        PRIMARY KEY,
    state   jsonb       NOT NULL,
    through timestamptz NOT NULL              -- the last point that was judged
);

CREATE TABLE service.series_point (
    series   text        NOT NULL,
    at       timestamptz NOT NULL,            -- beginning of the hour, or of the date in UTC
    value    double precision NOT NULL,
    expected double precision,                -- NULL: too little was known for a verdict
    low      double precision,
    high     double precision,
    score    double precision,
    PRIMARY KEY (series, at)
);

CREATE TABLE service.anomaly (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series      text        NOT NULL,
    since       timestamptz NOT NULL,
    until       timestamptz NOT NULL,
    severity    text        NOT NULL CHECK (severity IN ('minor', 'major', 'critical')),
    direction   text        NOT NULL CHECK (direction IN ('high', 'low')),
    value       double precision NOT NULL,    -- at its peak
    expected    double precision NOT NULL,
    low         double precision NOT NULL,
    high        double precision NOT NULL,
    score       double precision NOT NULL,
    explanation text        NOT NULL,
    calm        int         NOT NULL DEFAULT 0,
    detail      jsonb       NOT NULL,         -- the peak's verdict, whole
    opened_at   timestamptz NOT NULL DEFAULT service.now(),
    closed_at   timestamptz
);
CREATE UNIQUE INDEX anomaly_open ON service.anomaly (series) WHERE closed_at IS NULL;    -- one open anomaly per series
CREATE INDEX anomaly_since ON service.anomaly (since DESC);

-- What is known of a person's habits, as of the last six-hour window in which they were active.
CREATE TABLE service.user_profile (
    user_id     text        PRIMARY KEY,
    figures     jsonb       NOT NULL,
    as_of       date        NOT NULL,
    computed_at timestamptz NOT NULL DEFAULT service.now()
);
