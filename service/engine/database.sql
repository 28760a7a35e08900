-- name: prepare_migrations
-- Our schema, and the table of applied migrations in it. Up to 0.1 the table was in the schema public; a release
-- of that time still finds it there, as a view, where our role may make one. Drop the view with the next release.
DO $$
BEGIN
    IF to_regnamespace('service') IS NULL THEN
        CREATE SCHEMA service;
    END IF;
    IF to_regclass('service.migration') IS NULL THEN
        IF EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.service_migration') AND relkind = 'r') THEN
            ALTER TABLE public.service_migration SET SCHEMA service;
            ALTER TABLE service.service_migration RENAME TO migration;
        ELSE
            CREATE TABLE service.migration (
                name       text PRIMARY KEY,
                checksum   text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            );
        END IF;
    END IF;
    IF to_regclass('public.service_migration') IS NULL
       AND has_schema_privilege(to_regnamespace('public')::oid, 'CREATE') THEN
        CREATE VIEW public.service_migration AS SELECT name, checksum, applied_at FROM service.migration;
    END IF;
END
$$

-- name: applied_migrations
-- The migrations that were applied, by whichever release.
SELECT name, checksum FROM service.migration

-- name: is_applied
-- Whether a migration ($1) was applied.
SELECT EXISTS (SELECT FROM service.migration WHERE name = $1)

-- name: record_migration
-- Record a migration. $1 name, $2 checksum.
INSERT INTO service.migration (name, checksum) VALUES ($1, $2)
