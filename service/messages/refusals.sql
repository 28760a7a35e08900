-- name: make_months
-- The tables of the months from $1 to $2 and of the week after, so that the next month's is there before it is needed.
SELECT service.make_refusal_month(month::date)
FROM generate_series(date_trunc('month', $1::date), $2::date + interval '7 days', '1 month') AS month

-- name: causes
-- The numbers of reasons ($2) with sentences ($3) of a job ($1), as far as they are known.
SELECT c.number, c.reason, c.detail FROM unnest($2::text[], $3::text[]) AS n(reason, detail)
JOIN service.refusal_cause AS c ON c.job = $1 AND c.reason = n.reason AND c.detail = n.detail

-- name: add_causes
-- Numbers for those that have none; in one order, so that two processes cannot wait for each other.
INSERT INTO service.refusal_cause (job, reason, detail)
SELECT $1, reason, detail FROM unnest($2::text[], $3::text[]) AS n(reason, detail) ORDER BY reason, detail
ON CONFLICT DO NOTHING

-- name: record
-- Why users got nothing on a local date. $1 run, $2 date; of each the packed id, the number of the cause, and a sentence of
-- their own or NULL ($5 NULL: nobody has one).
INSERT INTO service.refusal (run_id, person, local_date, cause, detail, decided_at)
SELECT $1, person, $2, cause, detail, (SELECT floor(extract(epoch FROM service.now() - timestamptz '2020-01-01Z')))
FROM unnest($3::bytea[], $4::int[], $5::text[]) AS r(person, cause, detail)
