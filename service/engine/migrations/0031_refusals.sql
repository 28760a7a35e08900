-- expand
-- Who was looked at and got nothing, and why: a small row for each, in a table for each month that is dropped as a whole.
-- The last release goes on writing service.decision, and what is there stays until it is too old; see
-- service.refusal_in_words. A later migration drops that table when it is empty.

-- A job, a reason and a sentence: stored once, and numbered.
CREATE TABLE service.refusal_cause (
    number int  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job    text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    UNIQUE (job, reason, detail)
);

-- Columns are in the order in which they leave no gaps. A run decides about everybody once (the cursor moves in the same
-- transaction), so no index has to keep rows unique.
CREATE TABLE service.refusal (
    run_id     bigint NOT NULL,
    local_date date   NOT NULL,
    cause      int    NOT NULL,          -- service.refusal_cause
    decided_at int    NOT NULL,          -- seconds since 2020, UTC
    person     bytea  NOT NULL,          -- the user's id in few bytes: service.unpacked_id
    detail     text                      -- a sentence about this person only; NULL: that of the cause
) PARTITION BY RANGE (local_date);
CREATE INDEX refusal_run ON service.refusal (run_id, cause);       -- runs/{id}, retry
CREATE INDEX refusal_person ON service.refusal (person);           -- explain, people; a run reads people in this order

-- The id of a user that messages.refusals.packed_id made smaller: 24 hex digits to 13 bytes, a UUID to 17.
CREATE FUNCTION service.unpacked_id(person bytea) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT CASE get_byte(person, 0) WHEN 1 THEN encode(substr(person, 2), 'hex')
                                WHEN 2 THEN encode(substr(person, 2), 'hex')::uuid::text
                                ELSE convert_from(substr(person, 2), 'UTF8') END
$$;

-- All of them as they are read.
CREATE VIEW service.refusal_in_words AS
SELECT r.run_id, service.unpacked_id(r.person) AS user_id, c.job, r.local_date, c.reason,
       coalesce(r.detail, c.detail) AS detail,
       timestamptz '2020-01-01Z' + r.decided_at * interval '1 second' AS decided_at
FROM service.refusal AS r JOIN service.refusal_cause AS c ON c.number = r.cause
UNION ALL
SELECT run_id, user_id, job, local_date, reason, detail, decided_at FROM service.decision;

-- Those of one user, by their packed id.
CREATE FUNCTION service.refusals_of(who bytea)
RETURNS TABLE (run_id bigint, user_id text, job text, local_date date, reason text, detail text, decided_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT r.run_id, service.unpacked_id(who), c.job, r.local_date, c.reason, coalesce(r.detail, c.detail),
       timestamptz '2020-01-01Z' + r.decided_at * interval '1 second'
FROM service.refusal AS r JOIN service.refusal_cause AS c ON c.number = r.cause
WHERE r.person = who
UNION ALL
SELECT d.run_id, d.user_id, d.job, d.local_date, d.reason, d.detail, d.decided_at
FROM service.decision AS d WHERE d.user_id = service.unpacked_id(who)
$$;

-- Makes the table of a date's month, unless it is there. Nobody who reads or writes others waits for it.
CREATE FUNCTION service.make_refusal_month(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', day);
    name  text := to_char(day, '"refusal_"YYYY_MM');
BEGIN
    IF to_regclass('service.' || name) IS NULL THEN
        LOCK TABLE service.refusal IN SHARE UPDATE EXCLUSIVE MODE;   -- one at a time
        IF to_regclass('service.' || name) IS NULL THEN
            EXECUTE format('CREATE TABLE service.%I (LIKE service.refusal INCLUDING ALL)', name);
            EXECUTE format('ALTER TABLE service.refusal ATTACH PARTITION service.%I FOR VALUES FROM (%L) TO (%L)',
                           name, month, (month + interval '1 month')::date);
        END IF;
    END IF;
END
$$;
