-- name: jobs
-- The state of each job and of its last runs. $1: job ids.
SELECT d.job, d.cron, d.mode, d.materialized_through, d.paused_by, d.paused_reason, d.paused_until,
       d.paused_at IS NOT NULL AND coalesce(d.paused_until > service.now(), true) AS paused,
       l.id AS last_id, l.state AS last_state, l.reason AS last_reason, l.nominal_at AS last_nominal_at,
       l.finished_at AS last_finished_at, s.finished_at AS last_success_at,
       c.nominal_at AS late_slot, c.started_at - c.nominal_at AS lateness,
       r.id AS running_id, o.oldest, coalesce(h.states, '{}') AS states, coalesce(h.seconds, '{}') AS seconds
FROM service.job_def AS d
LEFT JOIN LATERAL (SELECT * FROM service.job_run WHERE job = d.job AND finished_at IS NOT NULL
                   ORDER BY nominal_at DESC, id DESC LIMIT 1) AS l ON true
LEFT JOIN LATERAL (SELECT max(finished_at) AS finished_at FROM service.job_run
                   WHERE job = d.job AND state IN ('succeeded', 'partial')) AS s ON true
LEFT JOIN LATERAL (SELECT nominal_at, started_at FROM service.job_run
                   WHERE job = d.job AND trigger IN ('cron', 'catchup') AND started_at IS NOT NULL
                   ORDER BY nominal_at DESC LIMIT 1) AS c ON true
LEFT JOIN LATERAL (SELECT id FROM service.job_run WHERE job = d.job AND state = 'running' ORDER BY id LIMIT 1) AS r ON true
LEFT JOIN LATERAL (SELECT min(not_before) AS oldest FROM service.job_run
                   WHERE job = d.job AND state = 'pending' AND not_before <= service.now()) AS o ON true
CROSS JOIN LATERAL (
    SELECT array_agg(state ORDER BY nominal_at DESC, id DESC)
               FILTER (WHERE state IN ('succeeded', 'partial', 'failed', 'dead', 'missed')) AS states,
           array_agg(extract(epoch FROM finished_at - started_at)::float8 ORDER BY nominal_at DESC, id DESC)
               FILTER (WHERE state IN ('succeeded', 'partial') AND started_at IS NOT NULL) AS seconds
    FROM (SELECT * FROM service.job_run WHERE job = d.job AND finished_at IS NOT NULL
          ORDER BY nominal_at DESC LIMIT 300) AS recent) AS h
WHERE d.job = ANY ($1::text[])

-- name: today
-- Messages planned since midnight, by channel and state. $1: time zone of midnight.
SELECT channel, state, count(*) AS n FROM service.delivery_with_state
WHERE planned_at >= (SELECT date_trunc('day', service.now(), $1))
GROUP BY channel, state ORDER BY channel, state

-- name: unconfirmed
-- Unconfirmed mails of the last 60 days.
SELECT count(*) FROM service.delivery_with_state
WHERE problem = 'unconfirmed' AND state = 'unconfirmed' AND planned_at > (SELECT service.now() - interval '60 days')

-- name: alerts
-- Open alerts, the newest first.
SELECT name, raised_at, detail FROM service.alert WHERE cleared_at IS NULL ORDER BY raised_at DESC

-- name: anomalies
-- Open anomalies, the most severe first.
SELECT series, since, until, severity, direction, value, low, high, explanation FROM service.anomaly
WHERE closed_at IS NULL ORDER BY array_position(ARRAY['critical', 'major', 'minor'], severity), since DESC

-- name: leases
-- The number of leases of each process: runs and messages.
SELECT owner, count(*) AS n FROM (
    SELECT owner FROM service.job_run WHERE state = 'running' AND lease_until >= (SELECT service.now())
    UNION ALL
    SELECT owner FROM service.delivery_claim WHERE until >= (SELECT service.now())
) AS held WHERE owner IS NOT NULL GROUP BY owner
