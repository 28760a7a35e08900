-- What status, health and metrics ask of every job, without reading a year of runs for it.

CREATE INDEX job_run_states ON service.job_run (job, state, created_at);                               -- counts by state
CREATE INDEX job_run_started ON service.job_run (job, started_at, id) WHERE started_at IS NOT NULL;    -- the newest
CREATE INDEX job_run_finished ON service.job_run (job, finished_at) WHERE finished_at IS NOT NULL;     -- the last success
