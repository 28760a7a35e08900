-- expand
-- A claim reads little, however many mails wait and whatever is known about the table.

-- The oldest mails that are due, blocked or not: in the order of the index, which ends the look after so many. Estimates that are
-- old, or made while the table was empty, let PostgreSQL sort all that is due instead.
CREATE FUNCTION service.oldest_due(most bigint) RETURNS TABLE (
    id bigint, version xid, job text, kind text, domain text, not_before timestamptz, expires_at timestamptz
) LANGUAGE plpgsql STABLE ROWS 300 SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT s.id, s.xmin, s.job, s.kind, s.domain, s.not_before, s.expires_at FROM service.delivery_state AS s
                 WHERE s.claim IS NULL AND s.not_before <= (SELECT service.now()) ORDER BY s.not_before, s.id LIMIT most;
END $$;

-- Past what is blocked: the oldest of each domain, job and kind.
CREATE INDEX delivery_state_group ON service.delivery_state (domain, job, kind, not_before, id) WHERE claim IS NULL;
DROP INDEX service.delivery_state_domain;

-- What is of no use any more is found without a look at what waits. Many mails have the same end: the index is small.
CREATE INDEX delivery_state_end ON service.delivery_state (expires_at) WHERE claim IS NULL;
