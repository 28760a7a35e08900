-- name: database_names
-- The zones that PostgreSQL can compute with.
SELECT name FROM pg_timezone_names

-- name: fill
-- Names ($1), each with PostgreSQL's name of its zone ($2); deletes others.
WITH gone AS (DELETE FROM service.zone WHERE name <> '' AND name <> ALL ($1::text[]))
INSERT INTO service.zone AS z (name, used) SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (name) DO UPDATE SET used = excluded.used WHERE z.used <> excluded.used

-- name: default
-- The zone of users without one.
INSERT INTO service.zone AS z (name, used) VALUES ('', $1)
ON CONFLICT (name) DO UPDATE SET used = excluded.used WHERE z.used <> excluded.used

-- name: heal_history
-- Where somebody is said to have lived in what is no zone ($1: all names, in lower case), the zone before it holds, or
-- today's. A word that PostgreSQL took for an abbreviation (CET has no summer time there) becomes the zone it means.
-- Days are marked as stale by the trigger. Rows that somebody is writing are left for the next start.
UPDATE service.user_zone AS z SET timezone = h.healed
FROM (SELECT u.user_id, u.since, coalesce(
          k.used,
          (SELECT e.used FROM service.user_zone AS b JOIN service.zone AS e ON e.name = b.timezone AND e.name <> ''
           WHERE b.user_id = u.user_id AND b.since < u.since ORDER BY b.since DESC LIMIT 1),
          (SELECT r.timezone FROM service.recipient AS r WHERE r.id = u.user_id),
          service.default_zone()) AS healed
      FROM service.user_zone AS u
      LEFT JOIN service.zone AS k ON service.zone_key(k.name) = service.zone_key(u.timezone) AND k.name <> ''
      WHERE service.zone_key(u.timezone) <> ALL ($1::text[]) OR k.name <> u.timezone
         OR (k.used <> u.timezone AND u.timezone NOT LIKE '%/%')
      FOR UPDATE OF u SKIP LOCKED) AS h
WHERE z.user_id = h.user_id AND z.since = h.since
RETURNING z.user_id

-- name: forget_moves
-- Moves of these people ($1) that lead to the zone where they were.
DELETE FROM service.user_zone AS z
USING (SELECT user_id, since, timezone, lag(timezone) OVER (PARTITION BY user_id ORDER BY since) AS before
       FROM service.zone_span WHERE user_id = ANY ($1::text[])) AS s
WHERE z.user_id = s.user_id AND z.since = s.since AND s.timezone = s.before

-- name: heal_users
-- People under the name that is used ($2) for the one that is stored ($1); without one the default, and to be read again.
WITH zones AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS n (name, used)
), healed AS (
    UPDATE service.users AS u SET timezone = coalesce(h.used, service.default_zone()),
                                  timezone_valid = u.timezone_valid AND h.used IS NOT NULL
    FROM (SELECT u.id, n.used FROM service.users AS u
          LEFT JOIN zones AS n ON service.zone_key(n.name) = service.zone_key(u.timezone)
          WHERE n.used IS DISTINCT FROM u.timezone
          FOR UPDATE OF u SKIP LOCKED) AS h
    WHERE u.id = h.id
    RETURNING u.id
), again AS (
    UPDATE service.sync_state SET zones = NULL
    WHERE collection = 'users' AND zones IS NOT NULL AND EXISTS (SELECT FROM healed)
)
SELECT id FROM healed

-- name: heal_settings
-- Users who chose what is no zone ($1: all names, in lower case) follow the dashboard again.
UPDATE service.recipient_setting SET timezone = NULL
WHERE user_id IN (SELECT user_id FROM service.recipient_setting
                  WHERE service.zone_key(timezone) <> ALL ($1::text[]) FOR UPDATE SKIP LOCKED)
RETURNING user_id

-- name: accepted
-- The usable names, each with PostgreSQL's name of its zone.
SELECT name, used FROM service.zone WHERE name <> ''
