-- name: beside_0_1_0
-- A process of release 0.1.0 may run beside this one during a roll-out, and takes this lock for as long as it reads.
-- Not waited for: it may stand still. Drop this with the next release.
SELECT pg_try_advisory_xact_lock_shared($1)
