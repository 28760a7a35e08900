-- name: connection_limits
-- How many connections our role and our database may have; -1: as many as the server. No limit holds for superusers.
SELECT rolname, CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END AS rolconnlimit,
       datname, CASE WHEN rolsuper THEN -1 ELSE datconnlimit END AS datconnlimit
FROM pg_roles, pg_database WHERE rolname = current_user AND datname = current_database()
