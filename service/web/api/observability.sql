-- name: alerts
-- Alerts, newest first. NULL means any: $1 open or over, $2 before id; $3 limit.
SELECT id, name, detail, raised_at, cleared_at FROM service.alert
WHERE ($1::boolean IS NULL OR (cleared_at IS NULL) = $1) AND ($2::bigint IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
