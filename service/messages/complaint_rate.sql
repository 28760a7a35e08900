-- name: begin
-- Whoever gets this row counts; nobody else does for $1.
UPDATE service.complaint_count SET counted_at = service.now() WHERE counted_at <= service.now() - $1::interval RETURNING counted_at

-- name: count
-- Mails whose final dot is not older than $1, and those of them that were reported as spam, by kind and recipients' domain. At most
-- $2 domains, those with most complaints, then with most mails; 'other': all the rest. judged: only those since a person last
-- opened the gate of complaints on the kind ($3 opens it by itself).
WITH lowest AS MATERIALIZED (
    SELECT min(one.id) AS id FROM service.delivery_days((service.now() - $1::interval)::date - 7, NULL) AS day CROSS JOIN LATERAL (
        SELECT id FROM service.delivery WHERE local_date = day ORDER BY id LIMIT 1) AS one
), opened AS MATERIALIZED (
    SELECT name AS kind, max(opened_at) AS at FROM service.gate
    WHERE scope = 'kind' AND cause = 'complaints' AND opened_by <> $3 GROUP BY name
), mail AS (
    SELECT kind, domain, state, dot_at FROM service.delivery_state
    WHERE id >= (SELECT id FROM lowest) AND state IN ('sent', 'bounced', 'complained')
    UNION ALL
    SELECT kind, domain, state, dot_at FROM service.delivery
    WHERE id >= (SELECT id FROM lowest) AND channel = 'email' AND state <> 'in_delivery_state'
      AND state IN ('sent', 'bounced', 'complained')
), by_domain AS MATERIALIZED (
    SELECT m.kind, coalesce(m.domain, '') AS domain, count(*) AS sent, count(*) FILTER (WHERE m.state = 'complained') AS complaints,
           count(*) FILTER (WHERE o.at IS NULL OR m.dot_at > o.at) AS judged_sent,
           count(*) FILTER (WHERE m.state = 'complained' AND (o.at IS NULL OR m.dot_at > o.at)) AS judged_complaints
    FROM mail AS m LEFT JOIN opened AS o USING (kind)
    WHERE m.dot_at > (SELECT service.now()) - $1::interval GROUP BY 1, 2
), shown AS MATERIALIZED (
    SELECT domain FROM by_domain WHERE domain <> '' GROUP BY domain
    ORDER BY sum(complaints) DESC, sum(sent) DESC, domain LIMIT $2
)
SELECT kind, CASE WHEN domain IN (SELECT domain FROM shown) THEN domain ELSE 'other' END AS domain, sum(sent)::bigint AS sent,
       sum(complaints)::bigint AS complaints, sum(judged_sent)::bigint AS judged_sent,
       sum(judged_complaints)::bigint AS judged_complaints
FROM by_domain GROUP BY 1, 2

-- name: forget
-- The counts of before.
DELETE FROM service.complaint_rate

-- name: store
-- Counts, by kind ($1) and domain ($2): mails ($3), complaints ($4).
INSERT INTO service.complaint_rate (kind, domain, sent, complaints)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])

-- name: counts
-- The counts of now, the kinds in order, 'other' last.
SELECT kind, domain, sent, complaints FROM service.complaint_rate ORDER BY kind, domain = 'other', complaints DESC, sent DESC, domain

-- name: counted_at
-- When that was counted; NULL: never.
SELECT nullif(counted_at, '-infinity') FROM service.complaint_count
