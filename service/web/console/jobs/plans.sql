-- name: once
-- A run that was scheduled once. $1 its id, $2 job.
SELECT id FROM service.job_run WHERE id = $1 AND job = $2 AND trigger = 'once'
