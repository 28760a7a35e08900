-- name: beside_0_1_1
-- A process of release 0.1.1, which may run beside this one during a rollout, holds this lock while it writes the archive.
-- We do not wait for it, because that process may be frozen. Drop this with the next release.
SELECT pg_try_advisory_xact_lock_shared(hashtext('service.archive'))
