-- name: exists
-- Whether this hour has been measured; it is measured only once.
SELECT EXISTS (SELECT FROM service.rollup WHERE statistic = 'performance' AND period = $1)

-- name: processes
-- The processes with a recent heartbeat, and their metrics.
SELECT name, vitals FROM service.replica
WHERE seen_at > service.now() - interval '5 minutes' AND vitals <> '{}' ORDER BY name

-- name: jobs
-- Per job: what ended in the hour [$1, $2), how long it took, how late it began; and the age of its last success at $2.
SELECT d.job,
       count(r.id) FILTER (WHERE r.finished_at >= $1) AS runs,
       count(r.id) FILTER (WHERE r.finished_at >= $1 AND r.state IN ('failed', 'partial', 'dead')) AS failures,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.finished_at - r.started_at))
           FILTER (WHERE r.finished_at >= $1) AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM r.finished_at - r.started_at))
           FILTER (WHERE r.finished_at >= $1) AS p95,
       max(extract(epoch FROM r.started_at - r.nominal_at))
           FILTER (WHERE r.finished_at >= $1 AND r.trigger = 'cron') AS lateness,
       extract(epoch FROM $2::timestamptz - max(r.finished_at) FILTER (WHERE r.state = 'succeeded')) AS success_age
FROM service.job_def AS d
LEFT JOIN service.job_run AS r ON r.job = d.job AND r.finished_at < $2 AND r.nominal_at > $2::timestamptz - interval '40 days'
GROUP BY d.job ORDER BY d.job

-- name: mail
-- Mails settled in the hour [$1, $2): by state, and how long the server took to answer the final dot.
SELECT count(*) FILTER (WHERE state IN ('sent', 'bounced', 'complained')) AS sent,
       count(*) FILTER (WHERE state = 'failed') AS failed,
       count(*) FILTER (WHERE state = 'unconfirmed') AS unconfirmed,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM settled_at - dot_at))
           FILTER (WHERE state = 'sent') AS p50,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM settled_at - dot_at))
           FILTER (WHERE state = 'sent') AS p95
FROM service.delivery_with_state
WHERE channel = 'email' AND settled_at >= $1 AND settled_at < $2

-- name: ledger
-- How many runs and deliveries are waiting, in progress or unconfirmed now.
SELECT 'runs' AS what, state, count(*) AS n FROM service.job_run
WHERE state IN ('pending', 'running') GROUP BY state
UNION ALL
SELECT 'deliveries', state, count(*) FROM service.delivery_with_state
WHERE state IN ('planned', 'claimed', 'sending', 'unconfirmed') GROUP BY state

-- name: previous_hour
-- The figures of the hour before $1.
SELECT figures FROM service.rollup WHERE statistic = 'performance' AND period = $1::timestamp - interval '1 hour'

-- name: raise_alert
-- An alert is raised once.
INSERT INTO service.alert (name, detail) VALUES ($1, $2) ON CONFLICT (name) WHERE cleared_at IS NULL DO NOTHING

-- name: clear_alerts
-- Clear alerts that no longer apply.
UPDATE service.alert SET cleared_at = service.now() WHERE cleared_at IS NULL AND NOT name = ANY ($1::text[])
