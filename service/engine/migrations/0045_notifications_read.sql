-- expand
-- A month is not derived again unless something in it has changed: a notification that was read in it, too.

CREATE FUNCTION service.notification_read() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO service.stale_period (statistic, period)
    SELECT w.statistic, date_trunc('month', r.at AT TIME ZONE 'UTC')
    FROM service.watermark AS w
    CROSS JOIN unnest(ARRAY[NEW.read_at, CASE WHEN TG_OP = 'UPDATE' THEN OLD.read_at END]) AS r (at)
    WHERE w.statistic = 'monthly' AND w.through >= date_trunc('month', r.at AT TIME ZONE 'UTC')
      AND EXISTS (SELECT FROM service.rollup WHERE statistic = w.statistic AND period <= r.at AT TIME ZONE 'UTC')
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER stale_of_inserted AFTER INSERT ON service.notification
    FOR EACH ROW WHEN (NEW.read_at IS NOT NULL) EXECUTE FUNCTION service.notification_read();
CREATE TRIGGER stale_of_read AFTER UPDATE OF read_at ON service.notification
    FOR EACH ROW WHEN (NEW.read_at IS DISTINCT FROM OLD.read_at) EXECUTE FUNCTION service.notification_read();
