-- name: backlog
-- What waits or is under way, from the partial indexes only: a scrape must stay cheap.
SELECT 'run' AS what, job, state, count(*) AS n FROM service.job_run WHERE state IN ('pending', 'running') GROUP BY job, state
UNION ALL
SELECT 'delivery', job, state, count(*) FROM service.delivery WHERE state = 'planned' GROUP BY job, state
UNION ALL
SELECT 'delivery', job, state, count(*) FROM service.delivery WHERE state IN ('claimed', 'sending') GROUP BY job, state

-- name: successes
-- Seconds since each job last succeeded, by the database's clock.
SELECT d.job, extract(epoch FROM service.now() - s.finished_at)::float8 AS age
FROM service.job_def d
CROSS JOIN LATERAL (SELECT finished_at FROM service.job_run r
                    WHERE r.job = d.job AND r.state IN ('succeeded', 'partial')
                    ORDER BY r.nominal_at DESC LIMIT 1) s
