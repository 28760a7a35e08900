-- name: columns
-- The columns of a table ($1, quoted) and their types; no rows: there is no such table.
SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type
FROM pg_attribute a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped

-- name: type_names
-- The names of some types ($1), in their order.
SELECT format_type(oid, NULL) AS type FROM unnest($1::oid[]) WITH ORDINALITY AS types (oid, position)
ORDER BY position

-- name: without_sequential_scans
-- In this transaction tables are scanned only where no index can be used.
SET LOCAL enable_seqscan = off
