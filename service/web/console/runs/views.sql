-- name: run
-- One run with its job's attempts and timeout, and how many the job's last run processed. $1: its id.
SELECT r.*, d.max_attempts, d.timeout, service.now() AS now, r.finished_at - r.started_at AS took,
       (SELECT p.done FROM service.job_run AS p
        WHERE p.job = r.job AND p.id <> r.id AND p.state IN ('succeeded', 'partial') AND p.done > 0
        ORDER BY p.nominal_at DESC LIMIT 1) AS usual
FROM service.job_run AS r JOIN service.job_def AS d USING (job) WHERE r.id = $1

-- name: population
-- The number of people in these zones. $1: zones; NULL: all.
SELECT count(*) FROM service.users WHERE $1::text[] IS NULL OR timezone = ANY ($1)

-- name: people
-- The first people whom a run skipped for a reason, whichever are found first. $1 run, $2 reason, $3 limit.
SELECT * FROM (
    SELECT user_id, detail FROM service.refusal_in_words WHERE run_id = $1 AND reason = $2 LIMIT $3) AS found
ORDER BY user_id

-- name: attempts
-- Every attempt at a run, oldest first. $1: its id.
SELECT owner, started_at, ended_at, state, reason, error FROM service.run_attempt WHERE run_id = $1 ORDER BY epoch
