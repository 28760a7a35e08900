-- name: record
-- What one look found: $1 keys, $2 subjects, $3 severities, $4 people, $5 details; each lasts for $6. Of the keys $7, and where
-- $8 has one, of its subject only, the look would have found all: what it did not find is over.
WITH found AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::jsonb[]) AS f (key, subject, severity, people, details)
), over AS (
    UPDATE service.condition AS c SET expires_at = service.now()
    FROM unnest($7::text[], $8::text[]) AS looked (key, subject)
    WHERE c.expires_at > service.now() AND c.key = looked.key AND coalesce(c.subject = looked.subject, true)
      AND NOT EXISTS (SELECT FROM found AS f WHERE f.key = c.key AND f.subject = c.subject)
)
INSERT INTO service.condition AS c (key, subject, severity, since, seen_at, expires_at, people, details)
SELECT key, subject, severity, service.now(), service.now(), service.now() + $6::interval, people, details FROM found
ON CONFLICT (key, subject) DO UPDATE SET
    severity = excluded.severity, seen_at = excluded.seen_at, expires_at = excluded.expires_at, people = excluded.people,
    details = excluded.details, since = CASE WHEN c.expires_at > service.now() THEN c.since ELSE excluded.since END

-- name: current
-- What is wrong now; problems first, the oldest first.
SELECT key, subject, severity, since, people, details FROM service.condition
WHERE expires_at > service.now() ORDER BY severity = 'warning', since, key, subject

-- name: forget
-- What was over a week ago.
DELETE FROM service.condition WHERE expires_at < service.now() - interval '7 days'
