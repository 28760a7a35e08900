-- name: history
-- The newest runs first. $1: job id pattern (LIKE), $2: limit, $3: only runs older than this id, $4: state or NULL.
SELECT * FROM service.job_run
WHERE job LIKE $1 AND ($3::bigint IS NULL OR id < $3) AND ($4::text IS NULL OR state = $4)
ORDER BY id DESC LIMIT $2

-- name: run
-- One run. $1: its id.
SELECT * FROM service.job_run WHERE id = $1

-- name: run_reasons
-- How many people a run left out, by reason. $1: run id.
SELECT reason, count(*) AS n FROM service.refusal_in_words WHERE run_id = $1 GROUP BY reason ORDER BY reason

-- name: run_deliveries
-- What became of a run's messages. $1: run id.
SELECT channel, state, count(*) AS n FROM service.delivery_with_state WHERE run_id = $1 GROUP BY channel, state ORDER BY channel, state

-- name: run_attempts
-- Every attempt at a run, oldest first. $1: run id.
SELECT owner, started_at, ended_at, state, reason, error FROM service.run_attempt WHERE run_id = $1 ORDER BY epoch
