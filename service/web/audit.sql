-- name: record
-- Write an audit entry. $1 actor, $2 act, $3 details.
INSERT INTO service.audit (who, act, what) VALUES ($1, $2, $3)

-- name: history
-- The audit log, newest first. NULL means any: $1 actor, $2 act, $3 and $4 first and last date in UTC, $5 before id; $6 limit.
SELECT id, at, who, act, what FROM service.audit
WHERE ($1::text IS NULL OR who = $1) AND ($2::text IS NULL OR act = $2)
  AND ($3::date IS NULL OR at >= $3::timestamp AT TIME ZONE 'UTC')
  AND ($4::date IS NULL OR at < ($4::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND ($5::bigint IS NULL OR id < $5)
ORDER BY id DESC LIMIT $6
