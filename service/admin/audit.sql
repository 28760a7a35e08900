-- name: remark
-- Who did what. $1 who, $2 act, $3 what.
INSERT INTO service.audit (who, act, what) VALUES ($1, $2, $3)
