-- name: earlier_insights
-- The earlier insights of these months, newest first.
SELECT period, figures, replaced_at FROM service.rollup_revision
WHERE statistic = 'insights' AND period = ANY ($1::timestamp[]) ORDER BY period, revision DESC
