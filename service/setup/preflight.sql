-- name: server
-- What a start needs to know of our PostgreSQL and of our role there.
SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS version_name,
       clock_timestamp() AS clock, current_user AS role, current_database() AS database,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS read_only,
       has_database_privilege(current_database(), 'TEMP') AS may_temporary,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       to_regnamespace('service') IS NOT NULL AS schema_exists,
       coalesce(has_schema_privilege(to_regnamespace('service')::oid, 'CREATE')
                AND has_schema_privilege(to_regnamespace('service')::oid, 'USAGE'), false) AS may_use_schema

-- name: refused_tables
-- Tables of ours that our role may not read and write.
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = to_regnamespace('service') AND c.relkind IN ('r', 'p')
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
           AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
ORDER BY 1

-- name: zones_filled
-- Whether the database has zone data: it does since migration 24.
SELECT to_regclass('service.zone_data') IS NOT NULL
