-- expand
-- Definitions that people and operators read: active dates, and sessions that were opened.

-- The active dates of somebody up to an instant: local dates with at least 60 s of credited focus, of the sessions that
-- started on them. clock: the zone of all dates; NULL: each in the zone in which they lived then.
CREATE FUNCTION service.active_dates(wanted text, at timestamptz, clock text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_agg(day ORDER BY day)
    FROM (SELECT coalesce(service.local_time(s.started_at, z)::date, s.local_day) AS day
          FROM service.local_session AS s LEFT JOIN service.zone AS z ON z.name = clock
          WHERE s.user_id = wanted AND s.focus AND s.status IN ('completed', 'abandoned') AND s.started_at <= at
          GROUP BY 1 HAVING sum(s.focus_seconds) >= 60) AS active
$$;

-- A goal's deadline is counted, too.
CREATE OR REPLACE FUNCTION service.goals_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        PERFORM service.mark_stale(array_agg(t.user_id), array_agg(service.user_time(t.user_id, t.at)::date))
        FROM former AS o JOIN rows AS n USING (id)
        CROSS JOIN LATERAL (VALUES (o.user_id, o.created_at), (o.user_id, o.completed_at),
                                   (n.user_id, n.created_at), (n.user_id, n.completed_at)) AS t (user_id, at)
        WHERE (o.user_id, o.open, o.created_at, o.completed_at, o.due_date, o.due_at)
              IS DISTINCT FROM (n.user_id, n.open, n.created_at, n.completed_at, n.due_date, n.due_at);
    END IF;
    RETURN NULL;
END $$;

-- Days that counted rejected sessions as opened, and all figures, are computed again.
INSERT INTO service.stale_day (user_id, local_day)
SELECT DISTINCT user_id, local_day FROM service.local_session WHERE status = 'rejected'
ON CONFLICT DO NOTHING;
INSERT INTO service.stale_period (statistic, period)
SELECT statistic, period FROM service.rollup
WHERE statistic IN ('daily', 'weekly', 'monthly', 'behaviour') AND NOT frozen
ON CONFLICT DO NOTHING;
