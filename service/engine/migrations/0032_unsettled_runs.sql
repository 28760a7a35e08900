-- expand
-- A slot that failed is retried by itself, and stays red until it succeeds or is waived. Deaths at one cursor halve its pages.

ALTER TABLE service.job_run
    ADD COLUMN unsettled_since timestamptz,              -- when it failed first; NULL: it did not, or that is settled
    ADD COLUMN retries  smallint NOT NULL DEFAULT 0,     -- how often it was retried by itself
    ADD COLUMN halvings smallint NOT NULL DEFAULT 0;     -- how often its pages were halved; 10: one person is passed over

UPDATE service.job_run SET unsettled_since = coalesce(finished_at, created_at)
WHERE state IN ('failed', 'dead') AND waived_at IS NULL;

-- A trigger, so that runs that the last release ends are red as well.
CREATE FUNCTION service.note_unsettled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.waived_at IS NOT NULL OR NEW.state IN ('succeeded', 'partial', 'skipped') THEN
        NEW.unsettled_since := NULL;
    ELSIF NEW.state IN ('failed', 'dead') THEN
        NEW.unsettled_since := coalesce(NEW.unsettled_since, service.now());
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER run_unsettled BEFORE INSERT OR UPDATE OF state, waived_at ON service.job_run
    FOR EACH ROW EXECUTE FUNCTION service.note_unsettled();

-- When a slot that failed is retried by itself: after a minute, then after twice as long each time, at most an hour; as long
-- as it is useful, or for a day. NULL: never.
CREATE FUNCTION service.retry_at(run service.job_run) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT at FROM (
        SELECT coalesce(run.finished_at, run.unsettled_since) + interval '1 minute' * least(60, 2 ^ least(run.retries, 6)) AS at) AS next
    WHERE run.unsettled_since IS NOT NULL AND run.state IN ('failed', 'dead') AND run.trigger <> 'manual'
      AND CASE WHEN run.deadline_at IS NULL THEN run.unsettled_since > service.now() - interval '1 day'
           ELSE at <= run.deadline_at END
$$;

-- Asked at each claim, by health and by every scrape; nearly always empty.
CREATE INDEX job_run_red ON service.job_run (job, nominal_at) WHERE unsettled_since IS NOT NULL AND trigger <> 'manual';
