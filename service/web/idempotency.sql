-- name: forget
-- Keys are kept for a day.
DELETE FROM service.idempotency WHERE key = ANY (ARRAY(
    SELECT key FROM service.idempotency WHERE created_at < service.now() - interval '24 hours' FOR UPDATE SKIP LOCKED))

-- name: claim
-- Ours if the key is new; waits for whoever is acting with the same key now. $1 key, $2 hash of the request.
INSERT INTO service.idempotency (key, request) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING RETURNING key

-- name: find
-- What was asked and answered with a key.
SELECT request, status, answer, run_id FROM service.idempotency WHERE key = $1

-- name: set_run
-- The run that answers, in the transaction that asks for it. $1 key, $2 run.
UPDATE service.idempotency SET run_id = $2 WHERE key = $1

-- name: store_answer
-- The answer. $1 key, $2 status, $3 body.
UPDATE service.idempotency SET status = $2, answer = $3 WHERE key = $1

-- name: release
-- Nothing was done: the key may be used again. $1 key.
DELETE FROM service.idempotency WHERE key = $1

-- name: lock
-- Held as long as somebody carries out the act of a key; PostgreSQL lets go of it when that process dies. $1 key.
SELECT pg_try_advisory_lock(hashtextextended($1, 1868784741))

-- name: unlock
-- The act is over, or nobody is at it any more. $1 key.
SELECT pg_advisory_unlock(hashtextextended($1, 1868784741))
