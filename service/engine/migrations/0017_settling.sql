-- A slot that failed stays red until it is retried or waived: somebody says that it is left as it is, and why.

ALTER TABLE service.job_run
    ADD COLUMN waived_at     timestamptz,
    ADD COLUMN waived_by     text,
    ADD COLUMN waived_reason text;

-- Until now the next run of a job hid them; what a success followed is old history, not work for today.
UPDATE service.job_run AS r
SET waived_at = service.now(), waived_by = 'migration 0017', waived_reason = 'before 0.1.1: a later run succeeded'
WHERE r.state IN ('failed', 'dead') AND EXISTS (
    SELECT FROM service.job_run AS later
    WHERE later.job = r.job AND later.state IN ('succeeded', 'partial')
      AND later.finished_at > coalesce(r.finished_at, r.created_at));

-- Asked by health and by every scrape; nearly always empty.
CREATE INDEX job_run_unsettled ON service.job_run (job, nominal_at)
    WHERE state IN ('failed', 'dead') AND waived_at IS NULL AND trigger <> 'manual';
