-- name: audit
-- Who did what, newest first. NULL means any: $1 who, $2 act, $3 and $4 first and last date in UTC, $5 before id; $6 limit.
SELECT id, at, who, act, what FROM service.audit
WHERE ($1::text IS NULL OR who = $1) AND ($2::text IS NULL OR act = $2)
  AND ($3::date IS NULL OR at >= $3::timestamp AT TIME ZONE 'UTC')
  AND ($4::date IS NULL OR at < ($4::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND ($5::bigint IS NULL OR id < $5)
ORDER BY id DESC LIMIT $6

-- name: alerts
-- Alerts, newest first. NULL means any: $1 open or over, $2 before id; $3 limit.
SELECT id, name, detail, raised_at, cleared_at FROM service.alert
WHERE ($1::boolean IS NULL OR (cleared_at IS NULL) = $1) AND ($2::bigint IS NULL OR id < $2)
ORDER BY id DESC LIMIT $3
