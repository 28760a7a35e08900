-- expand
-- Judged points are judged again when what they rest on has changed; focus lies in the hours in which it happened.

-- provisional: the figure may still change, as sessions run or the day is not over everywhere. holiday: the countries that had one.
ALTER TABLE service.series_point
    ADD COLUMN provisional boolean NOT NULL DEFAULT false,
    ADD COLUMN holiday     text;

-- An anomaly that does not hold for the figures as they are now.
ALTER TABLE service.anomaly ADD COLUMN withdrawn_at timestamptz;

-- The zone whose hours and weekdays repeat in a series.
ALTER TABLE service.series ADD COLUMN zone text NOT NULL DEFAULT 'UTC';

-- How many users were in which zone when the first point of a month was judged: for their holidays, and for their clock.
CREATE TABLE service.user_places (
    month    date NOT NULL,
    timezone text NOT NULL,
    users    int  NOT NULL,
    PRIMARY KEY (month, timezone)
);

-- What the detector remembered of a series after its point through, with the anomaly that was open then: from here on the
-- series can be judged again.
CREATE TABLE service.series_snapshot (
    series  text        NOT NULL,
    through timestamptz NOT NULL,
    state   jsonb       NOT NULL,
    anomaly jsonb,
    PRIMARY KEY (series, through)
);

-- Where the sessions of each writing statement begin: hours from there on are judged again. Rows are only added, so that
-- writers never wait for each other or for the detector; it takes those that are committed.
CREATE TABLE service.changed_hour (
    since timestamptz NOT NULL
);

CREATE FUNCTION service.hours_touched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        INSERT INTO service.changed_hour SELECT min(started_at) FROM rows HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION service.hours_edited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT service.loading() THEN
        INSERT INTO service.changed_hour
        SELECT min(least(o.started_at, n.started_at)) FROM former AS o JOIN rows AS n USING (id)
        WHERE (o.user_id, o.started_at, o.ended_at, o.focus, o.status, o.focus_seconds)
              IS DISTINCT FROM (n.user_id, n.started_at, n.ended_at, n.focus, n.status, n.focus_seconds)
        HAVING count(*) > 0;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER hours_of_new AFTER INSERT ON service.timer_sessions
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.hours_touched();
CREATE TRIGGER hours_of_old AFTER DELETE ON service.timer_sessions
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.hours_touched();
CREATE TRIGGER hours_of_edited AFTER UPDATE ON service.timer_sessions
    REFERENCING OLD TABLE AS former NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.hours_edited();
