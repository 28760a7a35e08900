-- name: now
-- The clock that decides.
SELECT service.now()

-- name: person
-- One person as jobs see them. $1: id.
SELECT * FROM service.recipient WHERE id = $1

-- name: deliveries
-- What was decided to be sent on a local date. $1 user, $2 job, $3 date.
SELECT id, channel, state, reason, attempt, run_id, dedupe_key, not_before, dot_at, settled_at
FROM service.delivery WHERE user_id = $1 AND job = $2 AND local_date = $3 ORDER BY id

-- name: decisions
-- Why nothing was sent on a local date. $1 user, $2 job, $3 date.
SELECT run_id, reason, detail, decided_at
FROM service.decision WHERE user_id = $1 AND job = $2 AND local_date = $3 ORDER BY run_id

-- name: runs
-- The runs of a job whose slot it was for this person on a local date. $1 job, $2 date, $3 zone, $4 slot group.
SELECT id, trigger, state, reason, nominal_at FROM service.job_run
WHERE job = $1 AND (zones IS NULL OR $4 = ANY (zones))
  AND nominal_at BETWEEN $2::date - interval '1 day' AND $2::date + interval '2 days'
  AND (nominal_at AT TIME ZONE $3)::date = $2 ORDER BY id
