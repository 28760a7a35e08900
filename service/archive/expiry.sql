-- name: rollups
-- Fine-grained figures that began before $1 (wall-clock time); totals of days, weeks and months stay.
DELETE FROM service.rollup WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM service.rollup
    WHERE statistic IN ('behaviour', 'performance') AND period < $1::timestamptz AT TIME ZONE 'UTC'
    LIMIT $2))

-- name: revisions
-- Earlier values of such figures.
DELETE FROM service.rollup_revision WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM service.rollup_revision
    WHERE statistic IN ('behaviour', 'performance') AND period < $1::timestamptz AT TIME ZONE 'UTC'
    LIMIT $2))

-- name: stale_periods
-- Such periods need not be derived again.
DELETE FROM service.stale_period WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM service.stale_period
    WHERE statistic IN ('behaviour', 'performance') AND period < $1::timestamptz AT TIME ZONE 'UTC'
    LIMIT $2))

-- name: points
-- Points of the series that the detector watches.
DELETE FROM service.series_point WHERE ctid = ANY (ARRAY(SELECT ctid FROM service.series_point WHERE at < $1 LIMIT $2))

-- name: anomalies
-- Anomalies that are over.
DELETE FROM service.anomaly WHERE ctid = ANY (ARRAY(SELECT ctid FROM service.anomaly WHERE closed_at < $1 LIMIT $2))

-- name: alerts
-- Alerts that were cleared.
DELETE FROM service.alert WHERE ctid = ANY (ARRAY(SELECT ctid FROM service.alert WHERE cleared_at < $1 LIMIT $2))

-- name: decisions
-- Reasons for not sending that older releases stored, of runs that were due before $1.
DELETE FROM service.decision WHERE ctid = ANY (ARRAY(
    SELECT d.ctid FROM service.job_run AS r JOIN service.decision AS d ON d.run_id = r.id
    WHERE r.nominal_at < $1 AND r.state NOT IN ('pending', 'running') LIMIT $2))

-- name: old_refusal_months
-- The tables of reasons for not sending whose month was over before $1; somebody's own date is at most one day behind.
SELECT c.relname AS name FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'service.refusal'::regclass
  AND c.relname < to_char(($1::timestamptz AT TIME ZONE 'UTC')::date - 1, '"refusal_"YYYY_MM')
ORDER BY c.relname

-- name: limit_lock_wait
-- Everybody who decides or reads waits behind us for the lock of a table: not for long.
SELECT set_config('lock_timeout', '1s', true)

-- name: deliveries
-- Messages planned before $1 that are settled, with their stages and notifications.
DELETE FROM service.delivery WHERE id = ANY (ARRAY(
    SELECT id FROM service.delivery_with_state
    WHERE planned_at < $1 AND state NOT IN ('planned', 'claimed', 'sending') LIMIT $2))

-- name: runs
-- Runs that were due before $1 and that no message or reason refers to.
DELETE FROM service.job_run WHERE id = ANY (ARRAY(
    SELECT id FROM service.job_run AS r
    WHERE nominal_at < $1 AND state NOT IN ('pending', 'running')
      AND NOT EXISTS (SELECT FROM service.delivery WHERE run_id = r.id)
      AND NOT EXISTS (SELECT FROM service.decision WHERE run_id = r.id)
      AND NOT EXISTS (SELECT FROM service.refusal WHERE run_id = r.id) LIMIT $2))
