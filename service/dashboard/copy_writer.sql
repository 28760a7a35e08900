-- name: store_problems
-- What is wrong with documents of a table ($1): those with problems ($3) have digests ($4), were left out ($5), for
-- reasons ($6); of the others that were read ($2) nothing is wrong any more. Erased users leave no trace.
WITH malformed AS (
    SELECT id, digest, left_out, string_to_array(reasons, ' ') AS reasons
    FROM unnest($3::text[], $4::bigint[], $5::boolean[], $6::text[]) AS m (id, digest, left_out, reasons)
), mended AS (
    DELETE FROM service.malformed_row WHERE collection = $1 AND id = ANY ($2::text[]) AND id <> ALL ($3::text[])
)
INSERT INTO service.malformed_row AS t (collection, id, digest, left_out, reasons)
SELECT $1, id, digest, left_out, reasons FROM malformed AS m
WHERE NOT ($1 = 'users' AND EXISTS (SELECT FROM service.erased)
           AND EXISTS (SELECT FROM service.erased AS e WHERE e.user_key = service.keyed_hash(m.id)))
ON CONFLICT (collection, id) DO UPDATE
SET digest = excluded.digest, left_out = excluded.left_out, reasons = excluded.reasons
WHERE ROW (t.*) IS DISTINCT FROM ROW (excluded.*)
