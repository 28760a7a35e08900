-- name: counts
-- Mails that came back or were complained about, by kind, domain and reason, the most first. $1: of how many days.
SELECT s.kind, s.domain, s.state, s.reason, count(*) AS n FROM service.delivery_state AS s
WHERE s.problem IN ('bounced', 'complained') AND s.settled_at > service.now() - $1::int * interval '1 day'
GROUP BY s.kind, s.domain, s.state, s.reason ORDER BY n DESC, s.kind, s.domain, s.state, s.reason LIMIT 500
