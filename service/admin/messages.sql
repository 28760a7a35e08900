-- name: deliveries
-- Messages, newest first, without addresses and facts. $1 user, $2 job, $3 states, $4 before id: NULL means any; $5 limit.
SELECT id, dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, state, reason, detail, attempt, resends,
       message_id, planned_at, not_before, expires_at, dot_at, settled_at, smtp_code, smtp_reply
FROM service.delivery
WHERE ($1::text IS NULL OR user_id = $1) AND ($2::text IS NULL OR job = $2)
  AND ($3::text IS NULL OR state = $3) AND ($4::bigint IS NULL OR id < $4)
ORDER BY id DESC LIMIT $5

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
