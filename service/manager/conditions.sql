-- name: jobs
-- One row per job, from indexes only: what ``job_conditions`` judges. $1: job ids.
SELECT d.job, d.mode, d.materialized_through,
       d.paused_at IS NOT NULL AND coalesce(d.paused_until > service.now(), true) AS paused,
       l.state AS last_state, l.trigger AS last_trigger, l.waived_at AS last_waived_at, s.finished_at AS last_success_at,
       EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope IN ('all', 'clock') OR (g.scope = 'job' AND g.name = d.job)) AS stopped,
       (SELECT min(r.not_before) FROM service.job_run AS r WHERE r.job = d.job AND r.state = 'pending') AS oldest_pending,
       (SELECT r.created_at FROM service.job_run AS r WHERE r.job = d.job ORDER BY r.nominal_at LIMIT 1) AS first_created
FROM service.job_def AS d
LEFT JOIN LATERAL (SELECT state, trigger, waived_at FROM service.job_run AS r
                   WHERE r.job = d.job AND r.started_at IS NOT NULL ORDER BY r.started_at DESC, r.id DESC LIMIT 1) AS l ON true
LEFT JOIN LATERAL (SELECT finished_at FROM service.job_run AS r
                   WHERE r.job = d.job AND r.state IN ('succeeded', 'partial') AND r.finished_at IS NOT NULL
                   ORDER BY r.finished_at DESC LIMIT 1) AS s ON true
WHERE d.job = ANY ($1::text[])

-- name: progress
-- What should have gone on by now: leases that ended ($1 ago) and that nobody took over, runs without progress (for $2), and
-- messages that are due (for $3), may be sent, and are not: the oldest 5,000 at most, so that a look costs as much at any backlog.
SELECT (SELECT min(lease_until) FROM service.job_run AS r
        WHERE state = 'running' AND lease_until < service.now() - $1::interval
          AND NOT EXISTS (SELECT FROM service.shut_gate AS g
                          WHERE g.scope IN ('all', 'clock') OR (g.scope = 'job' AND g.name = r.job))) AS run_lease,
       (SELECT min(until) FROM service.delivery_claim WHERE until < service.now() - $1::interval) AS message_lease,
       (SELECT jsonb_agg(jsonb_build_object('run', id, 'job', job, 'since', to_char(coalesce(progressed_at, started_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')))
        FROM service.job_run
        WHERE state = 'running' AND coalesce(progressed_at, started_at) < service.now() - $2::interval) AS stuck_runs,
       w.n AS waiting, w.since AS waiting_since
FROM (SELECT count(*) AS n, min(not_before) AS since FROM (
          SELECT not_before FROM service.delivery_state AS d
          WHERE claim IS NULL AND not_before < (SELECT service.now()) - $3::interval AND expires_at > (SELECT service.now())
            AND coalesce(domain <> ALL (ARRAY(SELECT domain FROM service.domain_pause)), true)
            AND NOT EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope IN ('clock', 'relay')
                            OR service.gate_covers(g.scope, g.name, d.job, d.kind, d.domain))
          ORDER BY not_before LIMIT 5000) AS oldest) AS w

-- name: locks
-- Statements of ours that have been waiting for a lock for longer than $1, and who holds it.
SELECT a.pid, extract(epoch FROM clock_timestamp() - l.waitstart)::int AS seconds,
       (SELECT jsonb_agg(jsonb_build_object('pid', h.pid, 'user', h.usename, 'application', h.application_name, 'since', h.xact_start))
        FROM pg_stat_activity AS h WHERE h.pid = ANY (pg_blocking_pids(a.pid))) AS held_by
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE NOT l.granted AND l.locktype NOT IN ('extend', 'advisory') AND l.waitstart < clock_timestamp() - $1::interval
  AND a.datname = current_database() AND a.usename = current_user
ORDER BY l.waitstart

-- name: copy
-- When each table of the copy was last brought up to date, for longer than $1 ago.
SELECT collection, synced_at FROM service.sync_state WHERE phase = 'live' AND synced_at < service.now() - $1::interval
