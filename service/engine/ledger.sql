-- name: now
-- The database's time, which decides what is due.
SELECT service.now()

-- name: register
-- A new job starts now, never retroactively; everything else about a job is kept. Nothing happens for a release that is too
-- old for the database ($7): it does not decide when jobs are due.
INSERT INTO service.job_def AS def (job, cron, mode, schedule_hash, timeout, max_attempts, materialized_through)
SELECT $1, $2, $3, $4, $5, $6, service.now() WHERE service.fits($7)
ON CONFLICT (job) DO UPDATE SET cron = excluded.cron, mode = excluded.mode, schedule_hash = excluded.schedule_hash,
                                timeout = excluded.timeout, max_attempts = excluded.max_attempts

-- name: register_schedule
-- A changed schedule begins where the one it replaces stands, at most $5 ago; one that was closed as well.
INSERT INTO service.job_schedule AS s (job, schedule_hash, cron, mode, materialized_through, shown_at)
SELECT $1, $4, $2, $3, greatest(least(service.now(), coalesce(
    (SELECT max(o.materialized_through) FROM service.job_schedule AS o
     WHERE o.job = $1 AND o.schedule_hash <> $4 AND o.closed_at IS NULL), service.now())), service.now() - $5::interval), service.now()
WHERE service.fits($6)
ON CONFLICT (job, schedule_hash) DO UPDATE SET
    shown_at = excluded.shown_at, closed_at = NULL,
    materialized_through = CASE WHEN s.closed_at IS NULL THEN s.materialized_through ELSE excluded.materialized_through END

-- name: show_watermark
-- The watermark that status and metrics show: that of the schedule which was registered last.
UPDATE service.job_def AS d SET materialized_through = s.materialized_through
FROM service.job_schedule AS s WHERE d.job = $1 AND s.job = d.job AND s.schedule_hash = d.schedule_hash

-- name: lock_definition
-- Zero rows: another replica is deciding this job's slots now, which is as good, or this release is too old to, or the
-- clock cannot be trusted ($3: the latest plausible time), or this schedule ($4) was closed.
SELECT s.materialized_through, service.now() AS now, d.paused_at, d.paused_until
FROM service.job_schedule AS s JOIN service.job_def AS d USING (job)
WHERE s.job = $1 AND s.schedule_hash = $4 AND s.closed_at IS NULL
  AND (SELECT service.fits($2)) AND (SELECT service.clock_trusted($3)) FOR UPDATE SKIP LOCKED

-- name: insert_slots
-- Each (job, instant) once: a conflict means that it was decided before. Where another schedule of the job decided an instant
-- for other zones, those that are left get a run of their own, microseconds later.
WITH slot AS (
    SELECT t.*, o.n, CASE WHEN o.n = 0 THEN t.zones ELSE ARRAY(SELECT unnest(t.zones) EXCEPT SELECT unnest(o.zones) ORDER BY 1) END AS left_zones
    FROM (SELECT trigger, nominal_at, nominal_local, string_to_array(zones, ',') AS zones, state, reason, deadline_at
          FROM unnest($3::text[], $4::timestamptz[], $5::timestamp[], $6::text[], $7::text[], $8::text[], $9::timestamptz[])
               AS u(trigger, nominal_at, nominal_local, zones, state, reason, deadline_at)) AS t
    CROSS JOIN LATERAL (
        SELECT count(DISTINCT r.id) AS n, array_agg(z) AS zones
        FROM service.job_run AS r LEFT JOIN LATERAL unnest(r.zones) AS z ON true
        WHERE r.job = $1 AND r.trigger IN ('cron', 'catchup')
          AND r.nominal_at >= t.nominal_at AND r.nominal_at < t.nominal_at + interval '1 millisecond') AS o
)
INSERT INTO service.job_run (job, trigger, nominal_at, nominal_local, zones, state, reason, not_before, deadline_at,
                             exclusive, finished_at)
SELECT $1, trigger, nominal_at + n * interval '1 microsecond', nominal_local, left_zones, state, reason, nominal_at,
       deadline_at, $2, CASE WHEN state <> 'pending' THEN service.now() END
FROM slot WHERE n = 0 OR cardinality(left_zones) > 0
ON CONFLICT (job, nominal_at) WHERE trigger IN ('cron', 'catchup') DO NOTHING

-- name: move_watermark
-- Every slot of this schedule ($3) up to here has been decided; its job shows it, where it was registered last.
WITH moved AS (
    UPDATE service.job_schedule SET materialized_through = $2, shown_at = service.now()
    WHERE job = $1 AND schedule_hash = $3 AND closed_at IS NULL
    RETURNING job, schedule_hash
)
UPDATE service.job_def AS d SET materialized_through = $2
FROM moved AS m WHERE d.job = m.job AND d.schedule_hash = m.schedule_hash

-- name: close_schedules
-- Schedules that no process has shown for ten minutes while another one of the job is in force. Their job shows that one.
WITH closed AS (
    UPDATE service.job_schedule AS s SET closed_at = service.now()
    WHERE closed_at IS NULL AND shown_at < service.now() - interval '10 minutes' AND (SELECT service.fits($1))
      AND EXISTS (SELECT FROM service.job_schedule AS o
                  WHERE o.job = s.job AND o.closed_at IS NULL AND o.shown_at >= service.now() - interval '10 minutes')
    RETURNING job, schedule_hash
), shown AS (
    UPDATE service.job_def AS d SET
        cron = o.cron, mode = o.mode, schedule_hash = o.schedule_hash, materialized_through = o.materialized_through
    FROM closed AS c, LATERAL (SELECT * FROM service.job_schedule AS o
                               WHERE o.job = c.job AND o.schedule_hash <> c.schedule_hash AND o.closed_at IS NULL
                               ORDER BY o.shown_at DESC LIMIT 1) AS o
    WHERE d.job = c.job AND d.schedule_hash = c.schedule_hash
)
SELECT job, schedule_hash FROM closed ORDER BY job

-- name: closed_schedules
-- Those of our schedules ($1 jobs, $2 hashes) that were closed.
SELECT s.job FROM service.job_schedule AS s JOIN unnest($1::text[], $2::text[]) AS ours (job, schedule_hash) USING (job, schedule_hash)
WHERE s.closed_at IS NOT NULL ORDER BY s.job

-- name: turn_back
-- After the clock was ahead: slots that it decided then and that did nothing are forgotten, and decided anew from there on.
WITH ahead AS (
    SELECT job, schedule_hash FROM service.job_schedule
    WHERE materialized_through > service.now() AND (SELECT service.fits($1)) FOR UPDATE
), undone AS (
    DELETE FROM service.job_run AS r
    WHERE r.job IN (SELECT a.job FROM ahead AS a) AND r.trigger IN ('cron', 'catchup') AND r.started_at IS NULL
      AND r.state IN ('pending', 'missed', 'skipped') AND greatest(r.created_at, r.nominal_at) > service.now()
    RETURNING r.job, r.nominal_at
), first AS (
    SELECT a.job, a.schedule_hash, least(
        service.now(), (SELECT min(u.nominal_at) - interval '1 microsecond' FROM undone AS u WHERE u.job = a.job)) AS at
    FROM ahead AS a
), moved AS (
    UPDATE service.job_schedule AS s SET materialized_through = f.at
    FROM first AS f WHERE s.job = f.job AND s.schedule_hash = f.schedule_hash
), shown AS (
    UPDATE service.job_def AS d SET materialized_through = f.at
    FROM first AS f WHERE d.job = f.job AND d.schedule_hash = f.schedule_hash
)
SELECT (SELECT count(*) FROM ahead) AS ahead, (SELECT count(*) FROM undone) AS undone

-- name: forget_missed
-- After the clock was ahead: runs that were given up then wait again.
UPDATE service.job_run SET state = 'pending', reason = NULL, finished_at = NULL
WHERE state = 'missed' AND finished_at > service.now() AND created_at <= service.now()

-- name: miss_overdue
-- Pending runs that nobody claimed within their lateness limit, with what they waited for. One that had failed stays red.
-- $1: the latest plausible time.
UPDATE service.job_run SET state = CASE WHEN unsettled_since IS NULL THEN 'missed' ELSE 'dead' END,
                           reason = concat_ws(': ', 'too late', reason), finished_at = service.now()
WHERE state = 'pending' AND not_before <= service.now() AND deadline_at < service.now() AND (SELECT service.clock_trusted($1))

-- name: bury_exhausted
-- Runs whose owner died at the last allowed attempt. The third death at one cursor halves the pages, and each that follows.
-- $1: the latest plausible time.
UPDATE service.job_run SET state = 'dead', reason = 'attempts exhausted', finished_at = service.now(),
    halvings = CASE WHEN attempt >= 3 OR halvings BETWEEN 1 AND 8 THEN least(10, halvings + 1) ELSE halvings END
WHERE id = ANY (ARRAY(
    SELECT run.id FROM service.job_run AS run JOIN service.job_def AS def ON def.job = run.job
    WHERE run.state = 'running' AND run.lease_until < service.now() AND run.attempt >= def.max_attempts
      AND (SELECT service.clock_trusted($1))
    FOR UPDATE OF run SKIP LOCKED))

-- name: cancel_pending
-- Runs that were put back after somebody had asked them to stop.
UPDATE service.job_run SET state = 'cancelled', reason = 'cancelled on request', finished_at = service.now()
WHERE state = 'pending' AND cancel_requested_at IS NOT NULL

-- name: due_retries
-- Slots that failed and whose time has come to be retried by themselves. $3: the latest plausible time.
SELECT run.id FROM service.job_run AS run
WHERE run.unsettled_since IS NOT NULL AND run.trigger <> 'manual' AND service.retry_at(run) <= service.now()
  AND coalesce(run.deadline_at >= service.now(), true)
  AND run.job = ANY ($1) AND (SELECT service.fits($2)) AND (SELECT service.clock_trusted($3))
ORDER BY run.nominal_at LIMIT 10

-- name: claim_orphan
-- A run whose owner let its lease expire, or that this process claimed without hearing so: it is not among those that it
-- works on ($6), and its lease is ten seconds old. Zero rows: all owners are alive, or another process was faster, or it is
-- stopped. $5: the latest plausible time. The third
-- death at one cursor halves the pages, and each that follows; of a page of one person three as well: then it is passed over.
UPDATE service.job_run SET
    owner = $1, lease_until = service.now() + $2, attempt = attempt + 1, epoch = epoch + 1, progressed_at = service.now(),
    halvings = CASE WHEN attempt >= 3 OR halvings BETWEEN 1 AND 8 THEN least(10, halvings + 1) ELSE halvings END
WHERE id = ANY (ARRAY(
    SELECT id FROM service.job_run AS run
    WHERE state = 'running' AND job = ANY ($3) AND (SELECT service.fits($4))
      AND (SELECT service.clock_trusted($5))
      AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope = 'all' OR (g.scope = 'job' AND g.name = run.job))
      AND (lease_until < service.now()
           OR owner = $1 AND id <> ALL ($6) AND lease_until < service.now() + $2 - least(interval '10 seconds', $2 / 2))
    ORDER BY lease_until LIMIT 1 FOR UPDATE SKIP LOCKED))
RETURNING *

-- name: claim
-- One run that is due, oldest first. Zero rows: nothing to do, or another process was faster, or it is stopped.
-- $6: the latest plausible time.
-- The unique index job_run_exclusive, not the NOT EXISTS, guarantees that a job does not overlap itself.
UPDATE service.job_run SET
    state = 'running', owner = $1, lease_until = service.now() + $2, attempt = attempt + 1, epoch = epoch + 1,
    started_at = coalesce(started_at, service.now()), progressed_at = service.now(), reason = NULL
WHERE id = ANY (ARRAY(
    SELECT id FROM service.job_run AS due
    WHERE state = 'pending' AND not_before <= service.now() - $4::interval AND job = ANY ($3)
      AND NOT (exclusive AND EXISTS (SELECT 1 FROM service.job_run AS other
                                     WHERE other.job = due.job AND other.state = 'running' AND other.exclusive))
      AND (SELECT service.fits($5)) AND (SELECT service.clock_trusted($6))
      AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope = 'all' OR (g.scope = 'job' AND g.name = due.job))
    ORDER BY not_before LIMIT 1 FOR UPDATE SKIP LOCKED))
RETURNING *

-- name: heartbeat
-- Extends the lease. Zero rows: another process owns the run.
UPDATE service.job_run SET lease_until = service.now() + $3
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING cancel_requested_at

-- name: fence
-- Nobody takes the run over during a transaction; heartbeats and requests to stop pass. Zero rows: a newer epoch owns it,
-- write nothing.
SELECT cancel_requested_at FROM service.job_run WHERE id = $1 AND epoch = $2 AND state = 'running' FOR KEY SHARE

-- name: fence_again
-- The same before the commit, up to which nothing passes.
SELECT cancel_requested_at FROM service.job_run WHERE id = $1 AND epoch = $2 AND state = 'running' FOR NO KEY UPDATE

-- name: cancel_requested
-- Whether somebody has asked the run to stop.
SELECT cancel_requested_at FROM service.job_run WHERE id = $1

-- name: advance
-- Progress, in the same transaction as the effects it stands for; counts are added up by name. Where the cursor moves on,
-- the attempts are counted anew: they are for a run that gets no further. Pages are as long as ever after a person was passed over.
UPDATE service.job_run SET cursor = $2, done = done + $3, progressed_at = service.now(),
    attempt = CASE WHEN cursor = $2 THEN attempt ELSE 1 END,
    halvings = CASE WHEN halvings > 9 THEN 0 ELSE halvings END, counts = (
    SELECT coalesce(jsonb_object_agg(name, n), '{}') FROM (
        SELECT name, sum(value::bigint) AS n
        FROM (SELECT * FROM jsonb_each_text(counts) UNION ALL SELECT * FROM jsonb_each_text($4)) AS both_of(name, value)
        GROUP BY name) AS added)
WHERE id = $1

-- name: finish
-- The end of a run, refused to anyone but its owner. One that was asked to stop and has no other reason says that it was faster.
UPDATE service.job_run SET state = $3, error = $5, counts = coalesce($6, counts),
    reason = coalesce($4, CASE WHEN cancel_requested_at IS NOT NULL THEN 'finished before the stop' END),
    finished_at = service.now(), lease_until = NULL
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING id

-- name: fail
-- The end of a run by an error of its own. The third at one cursor halves the pages, and each that follows; one of a single
-- person passes that person over.
UPDATE service.job_run SET state = 'failed', reason = NULL, error = $3, finished_at = service.now(), lease_until = NULL,
    halvings = CASE WHEN attempt + retries >= 3 OR halvings > 0 THEN least(10, halvings + 1) ELSE halvings END
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING id

-- name: retry_later
-- Back to pending after a transient failure; dead when the attempts are used up. $3: the pause for each attempt so far. The
-- pages become shorter, to a sixteenth at most: it is hardly a person's fault, but a long page may be too slow.
UPDATE service.job_run AS run SET
    state = CASE WHEN run.attempt >= def.max_attempts THEN 'dead' ELSE 'pending' END,
    reason = CASE WHEN run.attempt >= def.max_attempts THEN 'attempts exhausted' ELSE 'waiting to retry' END,
    finished_at = CASE WHEN run.attempt >= def.max_attempts THEN service.now() END,
    halvings = CASE WHEN run.attempt >= 3 AND run.halvings < 4 THEN run.halvings + 1 ELSE run.halvings END,
    not_before = service.now() + $3::interval * run.attempt, error = $4, lease_until = NULL, owner = NULL
FROM service.job_def AS def
WHERE run.id = $1 AND run.epoch = $2 AND run.state = 'running' AND def.job = run.job
RETURNING run.id

-- name: wait_for_dashboard
-- Back to pending without using up an attempt: the dashboard is down, the lateness limit decides.
UPDATE service.job_run SET state = 'pending', reason = 'waiting for the dashboard', attempt = attempt - 1,
    not_before = service.now() + $3, error = $4, lease_until = NULL, owner = NULL
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING id

-- name: wait_for
-- Back to pending without using up an attempt: its dependency is not available yet.
UPDATE service.job_run SET state = 'pending', reason = $4, attempt = attempt - 1,
    not_before = service.now() + $3, lease_until = NULL, owner = NULL
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING id

-- name: release
-- A graceful stop hands the run to another process at once; the next owner goes on at the cursor.
UPDATE service.job_run SET state = 'pending', attempt = attempt - 1, epoch = epoch + 1, owner = NULL,
                           lease_until = NULL
WHERE id = $1 AND epoch = $2 AND state = 'running'
RETURNING id

-- name: held
-- How much a process holds: runs, messages and leases.
SELECT (SELECT count(*) FROM service.job_run WHERE state = 'running' AND owner = $1)
     + (SELECT count(*) FROM service.delivery_claim AS c JOIN service.delivery_state AS s ON s.id = ANY (c.deliveries)
        WHERE c.owner = $1 AND s.claim = c.id AND s.state IN ('claimed', 'sending'))
     + (SELECT count(*) FROM service.lease WHERE owner = $1 AND until > service.now())

-- name: running
-- Whether a job runs now, exclusively.
SELECT id FROM service.job_run WHERE job = $1 AND state = 'running' AND exclusive AND lease_until >= service.now()

-- name: request
-- A run that somebody asked for. Zero rows: this request key was used before.
INSERT INTO service.job_run (job, trigger, nominal_at, options, request_key, state, not_before)
VALUES ($1, $2, coalesce($3, service.now() + $6), $4, $5, 'pending', service.now() + $6)
ON CONFLICT (job, request_key) WHERE request_key IS NOT NULL DO NOTHING
RETURNING *

-- name: requested
-- The run of an earlier request.
SELECT * FROM service.job_run WHERE job = $1 AND request_key = $2

-- name: claim_requested
-- The requesting process runs it itself. Zero rows: another process was faster, or this release is too old,
-- or it is stopped. $5: the latest plausible time.
UPDATE service.job_run SET
    state = 'running', owner = $2, lease_until = service.now() + $3, attempt = attempt + 1, epoch = epoch + 1,
    started_at = coalesce(started_at, service.now()), progressed_at = service.now()
WHERE id = $1 AND state = 'pending' AND (SELECT service.fits($4)) AND (SELECT service.clock_trusted($5))
  AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope = 'all' OR (g.scope = 'job' AND g.name = service.job_run.job))
RETURNING *

-- name: gate_of_job
-- The oldest gate that stops a job ($1).
SELECT id, scope, since FROM service.shut_gate
WHERE scope IN ('all', 'clock') OR (scope = 'job' AND name = $1) ORDER BY since, id LIMIT 1

-- name: cancel
-- A pending run ends here; a running one is asked to stop. Zero rows: it is over.
UPDATE service.job_run SET
    cancel_requested_at = service.now(),
    state = CASE WHEN state = 'pending' THEN 'cancelled' ELSE state END,
    finished_at = CASE WHEN state = 'pending' THEN service.now() END
WHERE id = $1 AND state IN ('pending', 'running')
RETURNING id

-- name: retry
-- A run that failed goes back to pending, at its cursor and with all its attempts (by itself, a statistic, whose pages are not
-- halved, gets one); from the beginning where the job failed
-- for some of the people: they lie before the cursor, and everybody is decided again. $2: how long it may take, where being
-- late does no harm; NULL: its deadline holds. $3: 'by itself' or 'by hand'. Zero rows: it has not failed, or it is too late.
WITH retried AS (
    UPDATE service.job_run SET
        state = 'pending', reason = 'retried ' || $3,
        retries = CASE WHEN $3 = 'by itself' THEN retries + 1 ELSE 0 END,
        halvings = CASE WHEN $3 = 'by itself' THEN halvings ELSE 0 END,
        attempt = CASE WHEN $3 = 'by itself' AND NOT starts_with(job, 'reminder.')
                       THEN (SELECT greatest(0, d.max_attempts - 1) FROM service.job_def AS d WHERE d.job = service.job_run.job)
                       ELSE 0 END,
        epoch = epoch + 1, owner = NULL, lease_until = NULL,
        not_before = service.now(), finished_at = NULL, cancel_requested_at = NULL,
        deadline_at = CASE WHEN $2::interval IS NULL OR deadline_at IS NULL THEN deadline_at
                           ELSE greatest(deadline_at, service.now() + $2) END,
        cursor = CASE WHEN counts ? 'user_error' THEN '' ELSE cursor END,
        done = CASE WHEN counts ? 'user_error' THEN 0 ELSE done END,
        counts = CASE WHEN counts ? 'user_error' THEN '{}' ELSE counts END,
        waived_at = NULL, waived_by = NULL, waived_reason = NULL
    WHERE id = $1 AND (state IN ('failed', 'dead') OR state = 'cancelled' AND unsettled_since IS NOT NULL)
      AND ($2::interval IS NOT NULL OR coalesce(deadline_at >= service.now(), true))
    RETURNING id, cursor
), forgotten AS (
    DELETE FROM service.refusal AS d USING retried AS r WHERE d.run_id = r.id AND r.cursor = ''
), forgotten_before AS (
    DELETE FROM service.decision AS d USING retried AS r WHERE d.run_id = r.id AND r.cursor = ''
)
SELECT id FROM retried

-- name: waive
-- A run that failed is left as it is, and no longer red; written down with who and why. Zero rows: it has not failed, or was
-- waived before, or is being retried.
WITH waived AS (
    UPDATE service.job_run SET waived_at = service.now(), waived_by = $2, waived_reason = $3
    WHERE id = $1 AND unsettled_since IS NOT NULL AND state NOT IN ('pending', 'running')
    RETURNING id, job, nominal_at)
INSERT INTO service.audit (who, act, what)
SELECT $2, 'waive-run', jsonb_build_object('run', id, 'job', job, 'reason', $3::text) FROM waived
RETURNING id

-- name: get
-- One run.
SELECT * FROM service.job_run WHERE id = $1

-- name: pause
-- Slots that pass while a job is paused are recorded as skipped.
WITH paused AS (
    UPDATE service.job_def SET paused_at = service.now(), paused_by = $2, paused_reason = $3, paused_until = $4
    WHERE job = $1 RETURNING *)
INSERT INTO service.audit (who, act, what)
SELECT $2, 'pause', jsonb_build_object('job', job, 'reason', paused_reason, 'until', paused_until) FROM paused
RETURNING id

-- name: resume
-- Ends a pause and writes down who did.
WITH resumed AS (
    UPDATE service.job_def SET paused_at = NULL, paused_by = NULL, paused_reason = NULL, paused_until = NULL
    WHERE job = $1 RETURNING job)
INSERT INTO service.audit (who, act, what) SELECT $2, 'resume', jsonb_build_object('job', job) FROM resumed
RETURNING id

-- name: definitions
-- Every job as it is registered.
SELECT *, paused_at IS NOT NULL AND coalesce(paused_until > service.now(), true) AS paused
FROM service.job_def ORDER BY job

-- name: beat_replica
-- This process is alive.
INSERT INTO service.replica (name, version, started_at, seen_at, vitals, schema)
VALUES ($1, $2, service.now(), service.now(), $3, $4)
ON CONFLICT (name) DO UPDATE SET version = excluded.version, schema = excluded.schema, seen_at = excluded.seen_at,
                                 vitals = excluded.vitals

-- name: replicas
-- The processes that were alive in the last five minutes.
SELECT name, version, schema, started_at, seen_at, vitals FROM service.replica
WHERE seen_at > service.now() - interval '5 minutes' ORDER BY started_at

-- name: places
-- The zones in which somebody lives, and those of people who chose their own hours.
SELECT z.used AS timezone, '{}'::jsonb AS hours
FROM (SELECT timezone FROM service.users GROUP BY timezone) AS u
JOIN service.zone AS z ON z.name = u.timezone
UNION
SELECT timezone, hours FROM service.recipient
WHERE id IN (SELECT user_id FROM service.recipient_setting)
