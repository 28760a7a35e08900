-- name: now
-- The clock that decides what is due.
SELECT service.now()

-- name: session_ended
-- Whether a session ($1 its key) was ended by signing out.
SELECT EXISTS (SELECT FROM service.ended_session WHERE session = $1)

-- name: end_session
-- End a session ($1 its key) that would expire at $2; forget those that have expired.
WITH expired AS (
    DELETE FROM service.ended_session WHERE expires_at < (SELECT service.now())
)
INSERT INTO service.ended_session (session, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING
