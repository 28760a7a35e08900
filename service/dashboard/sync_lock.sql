-- name: beside_0_1_0
-- A process of release 0.1.0, which may run beside this one during a rollout, holds this lock while it reads.
-- We do not wait for it, because that process may be frozen. Drop this with the next release.
SELECT pg_try_advisory_xact_lock_shared($1)
