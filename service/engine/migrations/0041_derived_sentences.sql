-- expand
-- Monthly insights and churn models are derived like figures: with a watermark, stale periods and revisions. All those
-- that exist are derived again, because nothing has revised them so far.
INSERT INTO service.watermark (statistic, through)
SELECT s, through FROM service.watermark CROSS JOIN unnest(ARRAY['insights', 'churnModel']) AS s
WHERE statistic = 'monthly' AND through IS NOT NULL
ON CONFLICT DO NOTHING;

INSERT INTO service.stale_period (statistic, period)
SELECT s, period FROM service.rollup JOIN service.watermark USING (statistic)
CROSS JOIN unnest(ARRAY['insights', 'churnModel']) AS s
WHERE statistic = 'monthly' AND period <= through
ON CONFLICT DO NOTHING;

-- A profile is stale if a day or a churn model that it rests on has changed since. Those that exist are computed again.
ALTER TABLE service.user_profile ADD COLUMN stale boolean NOT NULL DEFAULT true;
ALTER TABLE service.user_profile ALTER COLUMN stale SET DEFAULT false;
CREATE INDEX user_profile_stale ON service.user_profile (user_id) WHERE stale;
