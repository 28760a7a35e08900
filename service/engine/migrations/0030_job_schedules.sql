-- expand
-- One watermark for each schedule of a job: during a roll-out two schedules are in force, and neither loses a slot.

CREATE TABLE service.job_schedule (
    job                  text        NOT NULL REFERENCES service.job_def ON DELETE CASCADE,
    schedule_hash        text        NOT NULL,
    cron                 text        NOT NULL,
    mode                 text        NOT NULL,
    materialized_through timestamptz NOT NULL,   -- every slot of this schedule up to here has been decided
    shown_at             timestamptz NOT NULL,   -- when a process with this schedule last decided its slots
    closed_at            timestamptz,            -- no process has shown it for ten minutes, and another is in force
    PRIMARY KEY (job, schedule_hash)
);
INSERT INTO service.job_schedule (job, schedule_hash, cron, mode, materialized_through, shown_at)
SELECT job, schedule_hash, cron, mode, materialized_through, service.now() FROM service.job_def;
