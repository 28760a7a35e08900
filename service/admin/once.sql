-- name: forget
-- Keys are kept for a day.
DELETE FROM service.idempotency WHERE key = ANY (ARRAY(
    SELECT key FROM service.idempotency WHERE created_at < service.now() - interval '24 hours' FOR UPDATE SKIP LOCKED))

-- name: take
-- Ours if the key is new; waits for whoever is acting with the same key now. $1 key, $2 hash of the request.
INSERT INTO service.idempotency (key, request) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING RETURNING key

-- name: known
-- What was asked and answered with a key.
SELECT request, status, answer FROM service.idempotency WHERE key = $1

-- name: keep
-- The answer, in the same transaction as the act.
UPDATE service.idempotency SET status = $2, answer = $3 WHERE key = $1

-- name: remark
-- Who did what. $1 role, $2 act, $3 what.
INSERT INTO service.audit (who, act, what) VALUES ($1, $2, $3)
