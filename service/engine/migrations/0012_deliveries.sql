-- Every filter of the list of messages within milliseconds, also over millions of them.

CREATE INDEX delivery_ended ON service.delivery (state, id)                                                   -- all but sent
    WHERE state IN ('failed', 'unconfirmed', 'skipped', 'missed', 'expired', 'cancelled', 'bounced', 'complained');
DROP INDEX service.delivery_failed;
CREATE INDEX delivery_reason ON service.delivery (reason, id) WHERE reason IS NOT NULL;
DROP INDEX service.delivery_date;
CREATE INDEX delivery_date ON service.delivery (local_date, id);
-- Without it the planner takes any beginning of an address for one in 200, and reads the whole table by id.
CREATE STATISTICS service.delivery_address_counts ON (lower(address) COLLATE "C") FROM service.delivery;

-- The days from since to until (NULL: open) between the first and the last local date of messages.
CREATE FUNCTION service.delivery_days(since date, until date) RETURNS SETOF date LANGUAGE sql STABLE AS $$
    SELECT day::date
    FROM generate_series(greatest(since, (SELECT min(local_date) FROM service.delivery))::timestamp,
                         least(until, (SELECT max(local_date) FROM service.delivery))::timestamp, interval '1 day') AS day
$$;
