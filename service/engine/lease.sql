-- name: make
-- A lease that nobody has ever taken. Its time is over for a moment only: who forgets old ones leaves it.
INSERT INTO service.lease (name, owner, epoch, until) VALUES ($1, '', 0, service.now() - interval '1 second')
ON CONFLICT DO NOTHING

-- name: take
-- Take a lease whose time is over; never waits. No row: somebody holds it.
UPDATE service.lease SET owner = $2, epoch = epoch + 1, until = service.now() + $3::interval
WHERE name = ANY (ARRAY(
    SELECT name FROM service.lease WHERE name = $1 AND (until < service.now() OR owner = $2)
    FOR UPDATE SKIP LOCKED))
RETURNING epoch

-- name: renew
-- The heartbeat. No row: the lease is over, or somebody else's.
UPDATE service.lease SET until = service.now() + $4::interval
WHERE name = $1 AND owner = $2 AND epoch = $3 AND until >= service.now()
RETURNING until

-- name: release
-- The work is done.
UPDATE service.lease SET until = '-infinity' WHERE name = $1 AND owner = $2 AND epoch = $3

-- name: begin
-- At the start of a transaction under a lease; the server ends it when its process stands still for $4 milliseconds.
-- No row: the lease is not ours any more.
SELECT set_config('idle_in_transaction_session_timeout', $4, true) FROM service.lease
WHERE name = $1 AND owner = $2 AND epoch = $3 AND until >= service.now()

-- name: fence
-- At the end of a transaction under a lease: until its commit nobody can take the lease. KEY SHARE, so that
-- heartbeats pass. No row: the lease is not ours any more, nothing may be committed.
SELECT 1 FROM service.lease WHERE name = $1 AND owner = $2 AND epoch = $3 AND until >= service.now() FOR KEY SHARE

-- name: ours
-- Whether a lease is still held.
SELECT EXISTS (SELECT FROM service.lease WHERE name = $1 AND owner = $2 AND epoch = $3 AND until >= service.now())

-- name: close
-- First half of taking a lease away: no transaction under it can end from here on, and none is about to.
SELECT 1 FROM service.lease WHERE name = $1 FOR UPDATE

-- name: revoke
-- Second half: whoever held it finds that it is lost.
UPDATE service.lease SET epoch = epoch + 1, until = '-infinity' WHERE name = $1
