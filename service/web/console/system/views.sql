-- name: replicas
-- The processes, the newest first; here: with a heartbeat within ninety seconds.
SELECT name, version, schema, started_at, seen_at, vitals, seen_at > service.now() - interval '90 seconds' AS here
FROM service.replica ORDER BY seen_at > service.now() - interval '90 seconds' DESC, started_at DESC LIMIT 50

-- name: pauses
-- Paused domains, and those that have accepted no mail since their last pause.
SELECT domain, failures, until, reply, until > service.now() AS paused FROM service.domain_pause ORDER BY until DESC, domain

-- name: collections
-- The state of the copy of the dashboard, and roughly how many rows each collection has.
SELECT s.collection, s.phase, s.rows_read, s.synced_at, s.swept_at, s.error, s.full_rows,
       CASE WHEN s.full_after IS NOT NULL THEN s.full_since END AS full_since,
       (SELECT coalesce(jsonb_object_agg(reason, n), '{}')
        FROM (SELECT reason, count(*) AS n FROM service.malformed_row AS m, unnest(m.reasons) AS reason
              WHERE m.collection = s.collection GROUP BY reason) AS r) AS rejected,
       (SELECT n_live_tup FROM pg_stat_user_tables AS t WHERE t.schemaname = 'service' AND t.relname = s.collection) AS held
FROM service.sync_state AS s ORDER BY s.collection

-- name: migrations
-- Applied migrations, the newest first.
SELECT name, applied_at FROM service.migration ORDER BY name DESC

-- name: versions
-- The version, time and size of our database.
SELECT current_setting('server_version') AS postgres, service.now() AS now,
       pg_size_pretty(pg_database_size(current_database())) AS size

-- name: alerts
-- Open alerts.
SELECT name, raised_at, detail FROM service.alert WHERE cleared_at IS NULL ORDER BY raised_at
