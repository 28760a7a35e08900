-- The foundation: one clock, the ledger of runs, the outbox of deliveries, the replica of the dashboard.

CREATE SCHEMA service;

-- All decisions about what is due and whose lease is over use this clock. Tests replace it to live a year in minutes.
CREATE FUNCTION service.now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- ── Ledger ──────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE service.job_def (
    job                  text PRIMARY KEY,
    cron                 text        NOT NULL,
    mode                 text        NOT NULL CHECK (mode IN ('user', 'service', 'utc')),
    schedule_hash        text        NOT NULL,
    timeout              interval    NOT NULL,
    max_attempts         int         NOT NULL CHECK (max_attempts > 0),
    paused_at            timestamptz,
    paused_until         timestamptz,
    paused_by            text,
    paused_reason        text,
    -- Every slot up to this instant has been decided: it has a row below, or the job had no slot.
    materialized_through timestamptz NOT NULL
);

CREATE TABLE service.job_run (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job                 text        NOT NULL REFERENCES service.job_def,
    trigger             text        NOT NULL CHECK (trigger IN ('cron', 'catchup', 'manual', 'backfill', 'once')),
    nominal_at          timestamptz NOT NULL,
    nominal_local       timestamp,
    zones               text[],              -- NULL: every user; else the zones whose slot this instant is
    request_key         text,
    options             jsonb       NOT NULL DEFAULT '{}',
    exclusive           boolean     NOT NULL DEFAULT true,
    state               text        NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'partial', 'failed',
                                                              'skipped', 'missed', 'cancelled', 'dead')),
    reason              text,
    attempt             int         NOT NULL DEFAULT 0,
    epoch               bigint      NOT NULL DEFAULT 0,
    owner               text,
    lease_until         timestamptz,
    not_before          timestamptz NOT NULL,
    deadline_at         timestamptz,         -- a pending run found later than this is missed
    cancel_requested_at timestamptz,
    cursor              text        NOT NULL DEFAULT '',
    done                bigint      NOT NULL DEFAULT 0,
    total               bigint,
    counts              jsonb       NOT NULL DEFAULT '{}',
    error               text,
    created_at          timestamptz NOT NULL DEFAULT service.now(),
    started_at          timestamptz,
    finished_at         timestamptz
);
CREATE UNIQUE INDEX job_run_slot ON service.job_run (job, nominal_at) WHERE trigger IN ('cron', 'catchup');
CREATE UNIQUE INDEX job_run_request ON service.job_run (job, request_key) WHERE request_key IS NOT NULL;
CREATE UNIQUE INDEX job_run_exclusive ON service.job_run (job) WHERE state = 'running' AND exclusive;
CREATE INDEX job_run_due ON service.job_run (not_before) WHERE state = 'pending';             -- claim
CREATE INDEX job_run_leases ON service.job_run (lease_until) WHERE state = 'running';         -- claim of the orphaned
CREATE INDEX job_run_history ON service.job_run (job, nominal_at DESC);                       -- history, status

-- ── Outbox ──────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE service.delivery (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dedupe_key       text        NOT NULL,
    channel          text        NOT NULL CHECK (channel IN ('email', 'in_app')),
    job              text        NOT NULL,
    run_id           bigint      REFERENCES service.job_run,
    kind             text        NOT NULL,
    user_id          text        NOT NULL,
    zone             text        NOT NULL,
    local_date       date        NOT NULL,
    template         text        NOT NULL,
    locale           text        NOT NULL,
    address          text,                   -- frozen when planned; NULL for in-app
    recipient_name   text        NOT NULL DEFAULT '',
    facts            jsonb       NOT NULL,
    message_id       text        NOT NULL,   -- without angle brackets
    message_date     timestamptz NOT NULL,   -- the Date header, the same at every attempt
    token            text        NOT NULL UNIQUE,   -- of the unsubscribe and preference links, >= 128 bit
    unconfirmed_policy text      NOT NULL DEFAULT 'hold' CHECK (unconfirmed_policy IN ('hold', 'resend')),
    state            text        NOT NULL DEFAULT 'planned'
                                 CHECK (state IN ('planned', 'claimed', 'sending', 'sent', 'failed', 'unconfirmed', 'skipped',
                                                  'missed', 'expired', 'cancelled', 'bounced', 'complained')),
    reason           text,
    detail           text,
    attempt          int         NOT NULL DEFAULT 0,
    resends          int         NOT NULL DEFAULT 0,
    epoch            bigint      NOT NULL DEFAULT 0,
    owner            text,
    lease_until      timestamptz,
    not_before       timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    dot_at           timestamptz,            -- recorded before the final dot is written
    settled_at       timestamptz,
    smtp_code        int,
    smtp_reply       text,
    planned_at       timestamptz NOT NULL DEFAULT service.now(),
    UNIQUE (dedupe_key, channel)
);
CREATE INDEX delivery_due ON service.delivery (not_before, id) WHERE state IN ('planned');                  -- claim
CREATE INDEX delivery_resend ON service.delivery (not_before, id) WHERE state = 'unconfirmed' AND unconfirmed_policy = 'resend';
CREATE INDEX delivery_leases ON service.delivery (lease_until) WHERE state IN ('claimed', 'sending');       -- take-over
CREATE INDEX delivery_user ON service.delivery (user_id, job, local_date);                                  -- explain, budget
CREATE INDEX delivery_run ON service.delivery (run_id);                                                     -- runs/{id}

-- The things a message is about, each announced once: goalDeadlines:{goal}:{due}:{stage}.
CREATE TABLE service.delivery_stage (
    stage_key   text   PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES service.delivery ON DELETE CASCADE
);
CREATE INDEX delivery_stage_delivery ON service.delivery_stage (delivery_id);

-- Why somebody who was looked at did not get a message.
CREATE TABLE service.decision (
    run_id     bigint      NOT NULL REFERENCES service.job_run ON DELETE CASCADE,
    user_id    text        NOT NULL,
    job        text        NOT NULL,
    local_date date        NOT NULL,
    reason     text        NOT NULL,
    detail     text        NOT NULL DEFAULT '',
    decided_at timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (run_id, user_id)
);
CREATE INDEX decision_user ON service.decision (user_id, job, local_date);

-- The in-app inbox that this service keeps.
CREATE TABLE service.notification (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id  bigint      NOT NULL UNIQUE REFERENCES service.delivery ON DELETE CASCADE,
    user_id      text        NOT NULL,
    type         text        NOT NULL,
    title        text        NOT NULL CHECK (length(title) <= 100),
    message      text        NOT NULL CHECK (length(message) <= 500),
    data         jsonb       NOT NULL DEFAULT '{}',
    priority     text        NOT NULL DEFAULT 'medium',
    action       jsonb,
    visible_from timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    read_at      timestamptz
);
CREATE INDEX notification_inbox ON service.notification (user_id, visible_from DESC);

-- ── What recipients decided, and what addresses told us ─────────────────────────────────────────────────

-- kind '*' and channel '*' mean all. Wins over whatever the dashboard says, on or off.
CREATE TABLE service.preference_override (
    user_id    text        NOT NULL,
    kind       text        NOT NULL,
    channel    text        NOT NULL DEFAULT '*',
    enabled    boolean     NOT NULL,
    source     text        NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (user_id, kind, channel)
);

CREATE TABLE service.suppression (
    address    text        PRIMARY KEY,      -- lower case
    reason     text        NOT NULL,
    detail     text        NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT service.now()
);
CREATE TABLE service.hard_bounce (
    address     text        NOT NULL,
    delivery_id bigint      NOT NULL,
    bounced_at  timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (address, delivery_id)
);

CREATE TABLE service.audit (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT service.now(),
    who    text        NOT NULL,
    act    text        NOT NULL,
    what   jsonb       NOT NULL DEFAULT '{}'
);

-- ── Replica of the dashboard, canonical ─────────────────────────────────────────────────────────────────

CREATE TABLE service.users (
    id             text PRIMARY KEY,
    name           text        NOT NULL,
    email          text,
    timezone       text        NOT NULL,     -- valid IANA name; DEFAULT_TIMEZONE where the dashboard has none
    timezone_valid boolean     NOT NULL,
    locale         text        NOT NULL DEFAULT 'en',
    active         boolean     NOT NULL,
    preferences    jsonb       NOT NULL DEFAULT '{}',   -- domain.Preferences as JSON, see store.replica
    created_at     timestamptz,
    last_login_at  timestamptz,
    updated_at     timestamptz
);
CREATE INDEX users_timezone ON service.users (timezone, id);

CREATE TABLE service.goals (
    id            text PRIMARY KEY,
    user_id       text        NOT NULL,
    title         text        NOT NULL,
    category      text,
    open          boolean     NOT NULL,
    priority      text        NOT NULL,
    target_value  double precision,
    current_value double precision,
    unit          text,
    progress      double precision,
    due_date      date,
    due_at        timestamptz,
    created_at    timestamptz,
    completed_at  timestamptz,
    updated_at    timestamptz,
    CHECK (due_date IS NULL OR due_at IS NULL)
);
CREATE INDEX goals_open ON service.goals (user_id) WHERE open;        -- goalDeadlines
CREATE INDEX goals_user ON service.goals (user_id);

CREATE TABLE service.timer_sessions (
    id              text PRIMARY KEY,
    user_id         text        NOT NULL,
    goal_id         text,
    kind            text        NOT NULL,
    focus           boolean     NOT NULL,
    status          text        NOT NULL,
    started_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    paused_at       timestamptz,
    planned_seconds int,
    focus_seconds   int         NOT NULL,
    category        text,
    tags            text[]      NOT NULL DEFAULT '{}',
    rating          int,
    updated_at      timestamptz
);
CREATE INDEX timer_sessions_user ON service.timer_sessions (user_id, started_at) INCLUDE (ended_at, focus, focus_seconds, status);

-- What the next rollup must recompute: the days that a sync touched.
CREATE TABLE service.stale_day (
    user_id   text NOT NULL,
    local_day date NOT NULL,
    PRIMARY KEY (user_id, local_day)
);

CREATE TABLE service.sync_state (
    collection     text PRIMARY KEY,         -- users | goals | timer_sessions
    phase          text        NOT NULL DEFAULT 'loading' CHECK (phase IN ('loading', 'live')),
    profile        text,
    watermark      timestamptz,
    last_id        text,
    resume_token   jsonb,
    rows_read      bigint      NOT NULL DEFAULT 0,
    rejected       jsonb       NOT NULL DEFAULT '{}',   -- reason -> count
    synced_at      timestamptz,
    swept_at       timestamptz,
    error          text
);

-- The processes that share this database.
CREATE TABLE service.replica (
    name         text PRIMARY KEY,
    version      text        NOT NULL,
    started_at   timestamptz NOT NULL,
    seen_at      timestamptz NOT NULL
);
