-- name: definitions
-- Jobs as they are registered. $1: job ids.
SELECT *, paused_at IS NOT NULL AND coalesce(paused_until > service.now(), true) AS paused
FROM service.job_def WHERE job = ANY ($1::text[]) ORDER BY job

-- name: newest
-- The newest runs of these jobs, manual ones too. $1: job ids, $2: how many.
SELECT id, job, trigger, state, reason, nominal_at, attempt, done, counts, started_at, finished_at,
       finished_at - started_at AS took, zones
FROM service.job_run WHERE job = ANY ($1::text[]) ORDER BY id DESC LIMIT $2

-- name: slots
-- The states of a job's slots, the newest first. $1 job, $2 since.
SELECT id, state, reason, nominal_at, nominal_local, zones FROM service.job_run
WHERE job = $1 AND nominal_at >= $2 AND trigger IN ('cron', 'catchup') ORDER BY nominal_at DESC

-- name: planned
-- Runs that are scheduled once and wait for their time. $1: job.
SELECT id, not_before, created_at FROM service.job_run
WHERE job = $1 AND trigger = 'once' AND state = 'pending' ORDER BY not_before, id
