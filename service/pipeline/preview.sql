-- name: known
-- Whether the dashboard's copy has this user. $1: user.
SELECT EXISTS (SELECT 1 FROM service.users WHERE id = $1)

-- name: now
-- The database's time: the date of the mail, and the moment to decide for.
SELECT service.now()

-- name: remark
-- Leave a trace of a test mail. $1 who asked, $2 what was sent where.
INSERT INTO service.audit (who, act, what) VALUES ($1, 'test-send', $2)
