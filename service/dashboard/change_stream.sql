-- name: load
-- The position of the change stream up to which everything is in the copy; no row: it was never followed.
SELECT token FROM service.change_stream

-- name: store
-- Everything up to this position is in the copy.
INSERT INTO service.change_stream (token, at) VALUES ($1, service.now())
ON CONFLICT ((true)) DO UPDATE SET token = excluded.token, at = excluded.at

-- name: forget
-- The stream cannot go on from its position.
DELETE FROM service.change_stream

-- name: are_live
-- Whether all these tables ($1) are loaded, and as this process reads them ($2).
SELECT count(*) = cardinality($1::text[]) FROM service.sync_state
WHERE collection = ANY ($1) AND phase = 'live' AND profile = $2

-- name: owners
-- Whose goals and sessions these are.
SELECT user_id FROM service.goals WHERE id = ANY ($1::text[])
UNION SELECT user_id FROM service.timer_sessions WHERE id = ANY ($1::text[])
