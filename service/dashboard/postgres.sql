-- name: tables
-- All tables and views in the search path.
SELECT c.relname AS name
FROM pg_class c
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND pg_table_is_visible(c.oid)
  AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)

-- name: hides_rows
-- Whether row level security of a table ($1, quoted) applies to our role.
SELECT row_security_active(to_regclass($1))

-- name: inbox
-- The table of notifications ($1, quoted): its columns that can be written, whether its id ($2) alone is unique,
-- and whether we may insert. No row: there is no such table.
SELECT (SELECT jsonb_object_agg(a.attname, format_type(a.atttypid, NULL)) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
          AND a.attidentity <> 'a') AS columns,
       EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indnkeyatts = 1 AND i.indpred IS NULL AND a.attname = $2) AS id_is_unique,
       has_any_column_privilege(c.oid, 'INSERT') AS may_insert
FROM pg_class c WHERE c.oid = to_regclass($1)

-- name: writable_columns
-- The columns of a table ($1, quoted) that can be written.
SELECT a.attname AS name FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum

-- name: referring_tables
-- Tables with foreign keys to a table ($1, quoted).
SELECT DISTINCT conrelid::regclass::text AS name FROM pg_constraint
WHERE contype = 'f' AND confrelid = to_regclass($1) ORDER BY 1

-- name: is_view
-- Whether a name ($1, quoted) is that of a view.
SELECT relkind IN ('v', 'm') FROM pg_class WHERE oid = to_regclass($1)
