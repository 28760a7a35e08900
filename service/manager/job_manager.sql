-- name: overview
-- One row per job, from indexes only: its definition, its last run, its last success, what waits. $1: job ids.
SELECT d.job, d.cron, d.mode, d.paused_at, d.paused_until, d.paused_by, d.paused_reason, d.materialized_through,
       d.paused_at IS NOT NULL AND (d.paused_until IS NULL OR d.paused_until > service.now()) AS paused,
       EXISTS (SELECT FROM service.shut_gate AS g WHERE g.scope IN ('all', 'clock') OR (g.scope = 'job' AND g.name = d.job)) AS stopped,
       l.id AS last_id, l.state AS last_state, l.trigger AS last_trigger, l.nominal_at AS last_nominal_at,
       l.finished_at AS last_finished_at, l.error AS last_error, l.waived_at AS last_waived_at, s.finished_at AS last_success_at,
       (SELECT max(r.finished_at) FROM service.job_run r WHERE r.job = d.job) AS last_ended_at,
       (SELECT count(*) FROM service.job_run r WHERE r.job = d.job AND r.state = 'running') AS running,
       p.pending, p.oldest_pending,
       (SELECT r.created_at FROM service.job_run r WHERE r.job = d.job ORDER BY r.nominal_at LIMIT 1) AS first_created
FROM service.job_def d
LEFT JOIN LATERAL (SELECT * FROM service.job_run r
                   WHERE r.job = d.job AND r.started_at IS NOT NULL
                   ORDER BY r.started_at DESC, r.id DESC LIMIT 1) l ON true
LEFT JOIN LATERAL (SELECT finished_at FROM service.job_run r
                   WHERE r.job = d.job AND r.state IN ('succeeded', 'partial') AND r.finished_at IS NOT NULL
                   ORDER BY r.finished_at DESC LIMIT 1) s ON true
CROSS JOIN LATERAL (SELECT count(*) AS pending, min(r.not_before) AS oldest_pending
                    FROM service.job_run r WHERE r.job = d.job AND r.state = 'pending') p
WHERE d.job = ANY($1::text[])
ORDER BY d.job

-- name: states
-- How many runs of each job are in which state; it counts all of them. $1: job ids.
SELECT job, state, count(*) AS n FROM service.job_run WHERE job = ANY ($1::text[]) GROUP BY job, state

-- name: unsettled
-- Slots that failed and have neither succeeded since nor been waived: the newest of each job. others: with the newest, how many
-- are not listed here. $1: job ids, $2: how many each.
SELECT r.id, r.job, r.state, r.nominal_at, r.deadline_at, r.done, r.zones, service.retry_at(r.run) AS retry_at,
       CASE WHEN r.nth > 1 THEN 0 ELSE (SELECT greatest(0, count(*) - $2) FROM service.job_run AS o
                                        WHERE o.job = r.job AND o.unsettled_since IS NOT NULL AND o.trigger <> 'manual') END AS others
FROM unnest($1::text[]) AS j (job)
CROSS JOIN LATERAL (SELECT run.*, run, row_number() OVER (ORDER BY nominal_at DESC) AS nth FROM service.job_run AS run
                    WHERE run.job = j.job AND unsettled_since IS NOT NULL AND trigger <> 'manual'
                    ORDER BY nominal_at DESC LIMIT $2) AS r
ORDER BY r.job, r.nominal_at

-- name: residents
-- How many people live in each zone; it counts all of them.
SELECT timezone, count(*) AS n FROM service.users GROUP BY timezone

-- name: cancel_once
-- Cancel a run of schedule_once that has not started. $1: run id.
UPDATE service.job_run SET state = 'cancelled', reason = 'cancelled', finished_at = service.now(), epoch = epoch + 1
WHERE id = $1 AND trigger = 'once' AND state = 'pending' RETURNING id

-- name: skip_shares
-- How many people the newest slot of each job left out, by reason, and the largest share of the same reason in the 28 slots
-- before. A slot is a local date; of earlier ones only the zones count that the newest has come to. $1: job ids, $2: reasons.
WITH recent AS MATERIALIZED (
    SELECT r.*, dense_rank() OVER (PARTITION BY r.job ORDER BY r.day DESC) AS nth
    FROM unnest($1::text[]) AS j (job)
    CROSS JOIN LATERAL (SELECT id, job, nominal_local::date AS day, zones, done, counts FROM service.job_run
                        WHERE job = j.job AND trigger IN ('cron', 'catchup') AND state IN ('succeeded', 'partial')
                        ORDER BY nominal_at DESC LIMIT 2000) AS r
    WHERE r.done > 0
), reached AS (
    SELECT DISTINCT job, zone FROM recent CROSS JOIN LATERAL unnest(coalesce(zones, '{}')) AS z (zone) WHERE nth = 1
), run AS MATERIALIZED (
    SELECT id, job, done, counts, nth FROM recent AS r
    WHERE nth <= 29 AND (zones IS NULL OR (job, zones[1]) IN (SELECT job, zone FROM reached))
), slot AS MATERIALIZED (
    SELECT job, nth, sum(done)::bigint AS people FROM run GROUP BY job, nth
), counted AS MATERIALIZED (
    SELECT job, nth, reason, sum(n)::bigint AS n
    FROM run CROSS JOIN LATERAL (SELECT key AS reason, value::bigint AS n FROM jsonb_each_text(counts) WHERE key = ANY ($2::text[])) AS c
    GROUP BY job, nth, reason
)
SELECT c.job, c.reason, c.n AS people, s.people AS of,
       (SELECT id FROM run AS r WHERE r.job = c.job AND r.nth = 1
        ORDER BY (r.counts ->> c.reason)::bigint DESC NULLS LAST, id DESC LIMIT 1) AS run_id,
       (SELECT count(*) FROM slot AS e WHERE e.job = c.job AND e.nth > 1) AS slots,
       coalesce(h.n, 0) AS most, coalesce(h.people, 0) AS most_of
FROM counted AS c JOIN slot AS s ON s.job = c.job AND s.nth = 1
LEFT JOIN LATERAL (SELECT b.n, e.people FROM counted AS b JOIN slot AS e USING (job, nth)
                   WHERE b.job = c.job AND b.reason = c.reason AND b.nth > 1
                   ORDER BY b.n::float8 / e.people DESC LIMIT 1) AS h ON true
WHERE c.nth = 1
ORDER BY c.n DESC, c.job, c.reason
