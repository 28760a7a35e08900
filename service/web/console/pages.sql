-- name: now
-- The clock that decides what is due.
SELECT service.now()
