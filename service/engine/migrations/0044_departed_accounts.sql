-- expand
-- An account that is deleted at the dashboard leaves a tombstone, and what it did stays counted: final figures stay final.

CREATE TABLE service.departed_user (
    user_id    text        PRIMARY KEY,
    created_at timestamptz,                        -- when the account was made; NULL: nobody knows
    left_at    timestamptz NOT NULL DEFAULT service.now(),      -- when it was found deleted
    left_day   date        NOT NULL                -- the local date of that; from it on the account is counted no more
);

-- Sessions and goals of theirs that the dashboard deleted with them: still in the copy, and counted.
CREATE TABLE service.kept_row (
    collection text NOT NULL,                      -- goals | timer_sessions
    id         text NOT NULL,
    user_id    text NOT NULL,
    PRIMARY KEY (collection, id)
);
CREATE INDEX kept_row_user ON service.kept_row (user_id);

-- All accounts that there are or were. left_day: NULL, it is there.
CREATE VIEW service.account AS
SELECT id, created_at, NULL::date AS left_day FROM service.users
UNION ALL
SELECT user_id, created_at, left_day FROM service.departed_user;

-- An erasure (service.loading) leaves no tombstone.
CREATE FUNCTION service.accounts_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF service.loading() THEN RETURN NULL; END IF;
    INSERT INTO service.departed_user (user_id, created_at, left_day)
    SELECT id, created_at, coalesce(service.user_time(id, service.now()), service.now() AT TIME ZONE 'UTC')::date FROM rows
    ON CONFLICT DO NOTHING;
    PERFORM service.mark_stale(array_agg(d.user_id), array_agg(d.left_day), true)
    FROM service.departed_user AS d JOIN rows AS r ON r.id = d.user_id;
    RETURN NULL;
END $$;
DROP TRIGGER users_stale_of_old ON service.users;
CREATE TRIGGER users_left AFTER DELETE ON service.users
    REFERENCING OLD TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.accounts_left();

-- An account that is back was never away. Whether its sessions and goals are, the next comparison finds out.
CREATE FUNCTION service.accounts_returned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM service.mark_stale(array_agg(d.user_id), array_agg(service.counts_from(d.user_id, d.created_at)), true)
    FROM service.departed_user AS d JOIN rows AS r ON r.id = d.user_id;
    DELETE FROM service.departed_user AS d USING rows AS r WHERE d.user_id = r.id;
    DELETE FROM service.kept_row AS k USING rows AS r WHERE k.user_id = r.id;
    RETURN NULL;
END $$;
CREATE TRIGGER users_returned AFTER INSERT ON service.users
    REFERENCING NEW TABLE AS rows FOR EACH STATEMENT EXECUTE FUNCTION service.accounts_returned();

-- Of what goes with an account only the counted part stays; the words go. Without a digest it is read again once it is back.
CREATE FUNCTION service.keep_departed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF service.loading() OR NOT EXISTS (SELECT FROM service.departed_user WHERE user_id = OLD.user_id) THEN
        RETURN OLD;
    END IF;
    INSERT INTO service.kept_row (collection, id, user_id) VALUES (TG_TABLE_NAME, OLD.id, OLD.user_id) ON CONFLICT DO NOTHING;
    IF TG_TABLE_NAME = 'goals' THEN
        UPDATE service.goals SET title = '', category = NULL, unit = NULL, digest = NULL WHERE id = OLD.id;
    ELSE
        UPDATE service.timer_sessions SET category = NULL, digest = NULL,
               tags = CASE WHEN tags = '{}' THEN tags ELSE '{""}' END WHERE id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_departed BEFORE DELETE ON service.goals FOR EACH ROW EXECUTE FUNCTION service.keep_departed();
CREATE TRIGGER keep_departed BEFORE DELETE ON service.timer_sessions FOR EACH ROW EXECUTE FUNCTION service.keep_departed();

-- What the dashboard should have: the copy without what we archived ourselves, and without what is kept.
CREATE OR REPLACE VIEW service.expected AS
SELECT 'users' AS collection, id, digest, NULL::timestamptz AS started_at FROM service.users
UNION ALL
SELECT 'goals', g.id, g.digest, NULL FROM service.goals AS g
WHERE NOT EXISTS (SELECT FROM service.kept_row AS k WHERE k.collection = 'goals' AND k.id = g.id)
UNION ALL
SELECT 'timer_sessions', s.id, s.digest, s.started_at FROM service.timer_sessions AS s
WHERE NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id)
  AND NOT EXISTS (SELECT FROM service.kept_row AS k WHERE k.collection = 'timer_sessions' AND k.id = s.id);

CREATE OR REPLACE VIEW service.archivable AS
SELECT s.id, s.user_id, s.ended_at
FROM service.timer_sessions AS s
WHERE s.status IN ('completed', 'cancelled', 'abandoned') AND s.ended_at IS NOT NULL
  AND s.started_at < (SELECT (through - interval '1 day') AT TIME ZONE 'UTC'
                      FROM service.watermark WHERE statistic = 'daily')
  AND NOT EXISTS (SELECT FROM service.archived_session AS a WHERE a.id = s.id)
  AND NOT EXISTS (SELECT FROM service.kept_row AS k WHERE k.collection = 'timer_sessions' AND k.id = s.id)
  AND NOT EXISTS (SELECT FROM service.stale_day AS d WHERE d.user_id = s.user_id
                  AND d.local_day BETWEEN (s.started_at AT TIME ZONE 'UTC')::date - 1
                                      AND (s.started_at AT TIME ZONE 'UTC')::date + 1);
