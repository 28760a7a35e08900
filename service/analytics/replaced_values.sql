-- name: replaced_values
-- Earlier values of some figures ($4 their names) of a statistic's periods that begin on the dates $2 to $3, where the
-- next revision has another value; oldest period first, its newest revision first.
SELECT period, figure, was, computed_at, replaced_at
FROM (SELECT v.period, v.revision, v.computed_at, v.replaced_at, n AS figure, (v.figures ->> n)::float8 AS was,
             (lead(v.figures, 1, r.figures) OVER (PARTITION BY n, v.period ORDER BY v.revision) ->> n)::float8 AS became
      FROM service.rollup_revision AS v JOIN service.rollup AS r USING (statistic, period)
      CROSS JOIN unnest($4::text[]) AS n
      WHERE v.statistic = $1 AND v.period >= $2::date AND v.period < $3::date + 1) AS revised
WHERE was <> became
ORDER BY period, revision DESC, figure
