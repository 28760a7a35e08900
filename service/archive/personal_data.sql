-- name: user_exists
-- Whether there is, or was, a user of this id.
SELECT EXISTS (SELECT FROM service.users WHERE id = $1)
    OR EXISTS (SELECT FROM service.departed_user WHERE user_id = $1)
    OR EXISTS (SELECT FROM service.erased WHERE user_key = service.keyed_hash($1))

-- name: tables
-- Every table of ours that holds rows of users under their ids, whichever module made it.
SELECT c.table_name AS name FROM information_schema.columns AS c
JOIN information_schema.tables AS t USING (table_schema, table_name)
WHERE c.table_schema = 'service' AND c.column_name = 'user_id' AND t.table_type = 'BASE TABLE' ORDER BY 1

-- name: profile
-- The user's own row.
SELECT to_jsonb(u) AS row FROM service.users AS u WHERE id = $1

-- name: refusals
-- Why they got nothing. $1: their packed id.
SELECT to_jsonb(r) AS row FROM service.refusals_of($1) AS r ORDER BY run_id

-- name: stages
-- What their messages were about.
SELECT to_jsonb(s) AS row FROM service.delivery_stage AS s JOIN service.delivery AS d ON d.id = s.delivery_id
WHERE d.user_id = $1 ORDER BY s.stage_key

-- name: attempts
-- The attempts to send them mails, and what servers said.
SELECT to_jsonb(a) AS row FROM service.delivery_attempt AS a JOIN service.delivery AS d ON d.id = a.delivery_id
WHERE d.user_id = $1 ORDER BY a.delivery_id, a.id

-- name: addresses
-- Every address at which they were known, in lower case.
SELECT DISTINCT lower(address) AS address FROM (
    SELECT unnest(ARRAY[email, mail_address]) AS address FROM service.users WHERE id = $1
    UNION ALL SELECT address FROM service.delivery WHERE user_id = $1) AS known
WHERE address IS NOT NULL

-- name: suppressions
-- The suppressions of these addresses.
SELECT to_jsonb(s) AS row FROM service.suppression AS s WHERE address = ANY ($1::text[]) ORDER BY address

-- name: bounces
-- The hard bounces of these addresses.
SELECT to_jsonb(b) AS row FROM service.hard_bounce AS b WHERE address = ANY ($1::text[]) ORDER BY address, bounced_at

-- name: mailbox_bounces
-- Their mails that came back because the mailbox was full or switched off.
SELECT to_jsonb(b) AS row FROM service.mailbox_bounce AS b WHERE address = ANY ($1::text[]) ORDER BY address, bounced_at

-- name: mailbox_rests
-- Until when no mail goes to them for that reason.
SELECT to_jsonb(m) AS row FROM service.mailbox_rest AS m WHERE address = ANY ($1::text[]) ORDER BY address

-- name: audited
-- Their entries in the audit log: by id or address. $1: both.
SELECT to_jsonb(a) AS row FROM service.audit AS a
WHERE EXISTS (SELECT FROM unnest($1::text[]) AS named
              WHERE jsonb_path_exists(a.what, '$.** ? (@ == $id)', jsonb_build_object('id', named))) ORDER BY id

-- name: wait_for_locks
-- Do not wait long for a sync or a statistic.
SET LOCAL lock_timeout = '20s'

-- name: beside_0_1_0
-- A process of release 0.1.0 may run beside this one during a roll-out: it does not copy the dashboard meanwhile.
-- Drop this with the next release.
SELECT pg_advisory_xact_lock_shared($1)

-- name: lock_rollups
-- No process derives figures meanwhile.
SELECT pg_advisory_xact_lock(hashtext('service.rollups'))

-- name: lock_erasure
-- No process plans messages meanwhile; see planning.
SELECT pg_advisory_xact_lock(hashtext('service.erasure'))

-- name: lock_mails
-- How their mails stand is locked before the mails, as the delivery does it: neither waits for the other for ever.
SELECT FROM service.delivery_state WHERE id IN (SELECT id FROM service.delivery WHERE user_id = $1) ORDER BY id FOR UPDATE

-- name: mark_no_days
-- No trigger marks days as stale in this transaction: what had counted this user is frozen instead.
SELECT set_config('service.loading', 'on', true)

-- name: tombstone
-- The tombstone, which keeps a sync from copying the user again.
INSERT INTO service.erased (user_key) VALUES (service.keyed_hash($1)) ON CONFLICT DO NOTHING

-- name: forget_missing
-- Their rows that are missing at the dashboard need no further checks.
DELETE FROM service.missing_row AS m
WHERE m.collection = 'users' AND m.id = $1
   OR m.collection = 'goals' AND EXISTS (SELECT FROM service.goals AS g WHERE g.id = m.id AND g.user_id = $1)
   OR m.collection = 'timer_sessions'
      AND EXISTS (SELECT FROM service.timer_sessions AS s WHERE s.id = m.id AND s.user_id = $1)

-- name: forget_malformed
-- What was wrong with their documents.
DELETE FROM service.malformed_row AS m
WHERE m.collection = 'users' AND m.id = $1
   OR m.collection = 'goals' AND EXISTS (SELECT FROM service.goals AS g WHERE g.id = m.id AND g.user_id = $1)
   OR m.collection = 'timer_sessions'
      AND EXISTS (SELECT FROM service.timer_sessions AS s WHERE s.id = m.id AND s.user_id = $1)

-- name: keep_suppressions
-- An address stays suppressed, but only its keyed hash is kept.
WITH gone AS (DELETE FROM service.suppression WHERE address = ANY ($1::text[]) RETURNING address, reason, created_at)
INSERT INTO service.suppressed_key (address_key, reason, created_at)
SELECT service.keyed_hash(address), reason, created_at FROM gone ON CONFLICT DO NOTHING

-- name: forget_bounces
-- Bounces hold addresses.
WITH full_mailboxes AS (DELETE FROM service.mailbox_bounce WHERE address = ANY ($1::text[])),
     rests AS (DELETE FROM service.mailbox_rest WHERE address = ANY ($1::text[]))
DELETE FROM service.hard_bounce WHERE address = ANY ($1::text[])

-- name: days
-- The local dates on which something of theirs was counted, and that of their signup.
SELECT local_date AS day FROM service.user_day WHERE user_id = $1
UNION SELECT service.signup_day(id, created_at) FROM service.account WHERE id = $1 AND created_at IS NOT NULL
UNION SELECT local_day FROM service.stale_day WHERE user_id = $1

-- name: freeze
-- The periods of a statistic in these spans stay as they are.
UPDATE service.rollup SET frozen = true
WHERE statistic = $1 AND NOT frozen
  AND EXISTS (SELECT FROM unnest($2::timestamp[], $3::timestamp[]) AS s (lo, hi) WHERE period BETWEEN lo AND hi)

-- name: flag_archive
-- These months' files must be rewritten: they hold rows that are no longer archived.
UPDATE service.archive_file SET leftovers = leftovers + 1
WHERE month = ANY ($2::date[]) OR month IN (SELECT month FROM service.archived_session WHERE user_id = $1)

-- name: forget_refusals
-- Why they got nothing. $1: their packed id.
DELETE FROM service.refusal WHERE person = $1

-- name: forget_user
-- The user's own row, before all that depends on it.
DELETE FROM service.users WHERE id = $1

-- name: scrub_runs
-- Runs for one user, tracebacks that may name them, and the positions of runs that are over.
UPDATE service.job_run SET options = options - 'userId',
       cursor = CASE WHEN cursor = $1 AND state NOT IN ('pending', 'running') THEN '' ELSE cursor END,
       error = CASE WHEN counts ? 'user_error' AND position($1 IN error) > 0 THEN 'erased' ELSE error END
WHERE options ->> 'userId' = $1 OR cursor = $1 OR (counts ? 'user_error' AND position($1 IN error) > 0)

-- name: scrub_audit
-- Keeps who did what, but not to whom. $1: their id and addresses.
UPDATE service.audit AS a SET what = '{"erased": true}'
WHERE EXISTS (SELECT FROM unnest($1::text[]) AS named
              WHERE jsonb_path_exists(a.what, '$.** ? (@ == $id)', jsonb_build_object('id', named)))

-- name: audit
-- Records that a user was erased, by whom, and how many rows; not which user.
INSERT INTO service.audit (who, act, what) VALUES ($1, 'erase', $2)
