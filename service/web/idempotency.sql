-- name: forget
-- Delete keys that are older than 24 hours.
DELETE FROM service.idempotency WHERE key = ANY (ARRAY(
    SELECT key FROM service.idempotency WHERE created_at < service.now() - interval '24 hours' FOR UPDATE SKIP LOCKED))

-- name: forget_leases
-- Delete leases on requests that ended more than an hour ago; a holder whose lease is gone has lost it. $1: how their
-- names begin.
DELETE FROM service.lease WHERE name = ANY (ARRAY(
    SELECT name FROM service.lease WHERE starts_with(name, $1) AND until < service.now() - interval '1 hour'
    FOR UPDATE SKIP LOCKED))

-- name: claim
-- Insert a key; returns nothing if it exists. Waits for a transaction that is inserting it. $1 key, $2 hash of the request.
INSERT INTO service.idempotency (key, request) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING RETURNING key

-- name: find
-- The request and the answer of a key. $1 key.
SELECT request, status, answer, run_id FROM service.idempotency WHERE key = $1

-- name: set_run
-- Record the run that a key started, in the transaction that requests the run. $1 key, $2 run.
UPDATE service.idempotency SET run_id = $2 WHERE key = $1

-- name: store_answer
-- Store the answer. $1 key, $2 status, $3 body.
UPDATE service.idempotency SET status = $2, answer = $3 WHERE key = $1

-- name: release
-- Delete a key whose request changed nothing, so that it can be used again. $1 key.
DELETE FROM service.idempotency WHERE key = $1
