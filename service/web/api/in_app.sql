-- name: inbox
-- A person's in-app messages that may be seen now, newest first. $1 user, $2 unread only, $3 before id or NULL, $4 limit.
SELECT id, type, title, message, data, priority, action, visible_from, expires_at, read_at
FROM service.notification
WHERE user_id = $1 AND visible_from <= service.now() AND expires_at > service.now() AND withdrawn_at IS NULL
  AND (NOT $2 OR read_at IS NULL) AND ($3::bigint IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4

-- name: unread
-- How many a person has not read. $1 user.
SELECT count(*) FROM service.notification
WHERE user_id = $1 AND visible_from <= service.now() AND expires_at > service.now() AND read_at IS NULL
  AND withdrawn_at IS NULL

-- name: mark_read
-- Read now; once read stays read. $1 user, $2 ids or NULL for all.
WITH done AS (UPDATE service.notification SET read_at = service.now()
              WHERE user_id = $1 AND read_at IS NULL AND visible_from <= service.now()
                AND ($2::bigint[] IS NULL OR id = ANY($2)) RETURNING 1)
SELECT count(*) FROM done
