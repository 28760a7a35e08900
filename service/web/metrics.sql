-- name: backlog
-- What waits or is under way, from the partial indexes only: a scrape must stay cheap.
SELECT 'run' AS what, job, state, count(*) AS n FROM service.job_run WHERE state = 'pending' GROUP BY job, state
UNION ALL
SELECT 'run', job, state, count(*) FROM service.job_run WHERE state = 'running' GROUP BY job, state
UNION ALL
SELECT 'delivery', job, state, count(*) FROM service.delivery_state WHERE claim IS NULL GROUP BY job, state
UNION ALL
SELECT 'delivery', s.job, s.state, count(*)
FROM service.delivery_claim AS c CROSS JOIN unnest(c.deliveries) AS mine(id) JOIN service.delivery_state AS s ON s.id = mine.id AND s.claim = c.id
WHERE s.state IN ('claimed', 'sending') GROUP BY s.job, s.state

-- name: successes
-- Seconds since each job last succeeded, by the database's clock.
SELECT d.job, extract(epoch FROM service.now() - s.finished_at)::float8 AS age
FROM service.job_def d
CROSS JOIN LATERAL (SELECT finished_at FROM service.job_run r
                    WHERE r.job = d.job AND r.state IN ('succeeded', 'partial')
                    ORDER BY r.nominal_at DESC LIMIT 1) s

-- name: recent
-- Runs that were due in the last 24 hours, by job and state; how late the newest scheduled one began.
SELECT d.job, coalesce(r.states, '{}') AS states, r.lateness
FROM service.job_def AS d
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(state, n) AS states, (array_agg(late ORDER BY newest DESC) FILTER (WHERE late IS NOT NULL))[1] AS lateness
    FROM (SELECT state, count(*) AS n, max(nominal_at) FILTER (WHERE started_at IS NOT NULL AND trigger = 'cron') AS newest,
                 (array_agg(extract(epoch FROM started_at - nominal_at)::float8 ORDER BY nominal_at DESC)
                     FILTER (WHERE started_at IS NOT NULL AND trigger = 'cron'))[1] AS late
          FROM service.job_run WHERE job = d.job AND nominal_at > (SELECT service.now() - interval '24 hours')
            AND nominal_at <= (SELECT service.now()) GROUP BY state) AS by_state) AS r

-- name: unsettled
-- Slots that failed and have neither succeeded since nor been waived.
SELECT d.job, count(r.id) AS n FROM service.job_def AS d
LEFT JOIN service.job_run AS r ON r.job = d.job AND r.unsettled_since IS NOT NULL AND r.trigger <> 'manual'
GROUP BY d.job

-- name: schedules
-- Each job's schedule, and the seconds since the instant up to which its slots are decided.
SELECT job, cron, extract(epoch FROM service.now() - materialized_through)::float8 AS age FROM service.job_def

-- name: waiting
-- Seconds by which the oldest message that is due has been waiting, NULL: none is due.
SELECT extract(epoch FROM service.now() - min(not_before))::float8 FROM service.delivery_state
WHERE claim IS NULL AND not_before <= service.now()

-- name: open
-- What is wrong or out of the ordinary now.
SELECT 'alert' AS what, name, 1 AS n FROM service.alert WHERE cleared_at IS NULL
UNION ALL
SELECT 'anomaly', severity, count(*) FROM service.anomaly WHERE closed_at IS NULL GROUP BY severity

-- name: conditions
-- What is wrong now, by key and severity.
SELECT key, severity, count(*) AS n FROM service.condition WHERE expires_at > service.now() GROUP BY key, severity

-- name: complaints
-- Mails of 30 days and complaints about them, as they were last counted.
SELECT kind, domain, sent, complaints FROM service.complaint_rate
