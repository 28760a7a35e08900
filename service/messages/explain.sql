-- name: now
-- The clock that decides.
SELECT service.now()

-- name: person
-- One user, as jobs read them. $1: id.
SELECT * FROM service.recipient WHERE id = $1

-- name: definition
-- Until when a job's slots are decided, and whether it is paused. $1: job.
SELECT materialized_through, paused_at, paused_until, paused_by, paused_reason FROM service.job_def WHERE job = $1

-- name: deliveries
-- Deliveries of a local date. $1 user, $2 job, $3 date; of runs from $4 to before $5 (or NULL).
SELECT d.id, d.channel, d.state, d.reason, d.attempt, d.run_id, d.detail, d.dedupe_key, d.not_before, d.dot_at, d.settled_at
FROM service.delivery_with_state AS d LEFT JOIN service.job_run AS r ON r.id = d.run_id
WHERE d.user_id = $1 AND d.job = $2 AND d.local_date = $3
  AND ($4::timestamptz IS NULL OR r.nominal_at >= $4) AND ($5::timestamptz IS NULL OR r.nominal_at < $5)
ORDER BY d.id

-- name: decisions
-- Reasons for sending nothing on a local date. $1 packed id of the user, $2 job, $3 date; of runs from $4 to before $5 (or
-- NULL).
SELECT d.run_id, d.reason, d.detail, d.decided_at
FROM service.refusals_of($1) AS d JOIN service.job_run AS r ON r.id = d.run_id
WHERE d.job = $2 AND d.local_date = $3
  AND ($4::timestamptz IS NULL OR r.nominal_at >= $4) AND ($5::timestamptz IS NULL OR r.nominal_at < $5)
ORDER BY d.run_id

-- name: runs
-- The runs of a job on a local date that included this user. $1 user, $2 job, $3 date;
-- from $4 to before $5 (or NULL); $6 the zone of the date, $7 the slot group by any name.
SELECT id, trigger, state, reason, nominal_at, started_at, finished_at
FROM service.job_run JOIN service.zone AS clock ON clock.name = $6
WHERE job = $2 AND (zones IS NULL OR zones && $7::text[]) AND coalesce(options ->> 'userId', $1) = $1
  AND nominal_at BETWEEN $3::date - interval '2 days' AND $3::date + interval '3 days'
  AND service.local_time(nominal_at, clock)::date = $3
  AND ($4::timestamptz IS NULL OR nominal_at >= $4) AND ($5::timestamptz IS NULL OR nominal_at < $5)
ORDER BY id
