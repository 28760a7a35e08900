-- name: page
-- Suppressed addresses, newest first. NULL means any: $1 and $2 where addresses (lower case) begin and end, $3 what they begin
-- with, $4 reason, $5 and $6 first and last date in UTC, $7 before id; $8 limit. Of somebody who was erased only the keyed hash
-- of the address is left: the whole address finds it.
WITH listed AS (
    SELECT id, address, reason, detail, created_at, until FROM service.suppressed_address
    WHERE $1::text IS NULL OR (address COLLATE "C" >= $1 AND address COLLATE "C" < $2)
    UNION ALL
    SELECT id, NULL, reason, '', created_at, NULL FROM service.suppressed_key
    WHERE $3::text IS NULL OR address_key = service.keyed_hash($3)
)
SELECT id, address, reason, detail, created_at, until FROM listed
WHERE ($4::text IS NULL OR reason = $4)
  AND ($5::date IS NULL OR created_at >= $5::timestamp AT TIME ZONE 'UTC')
  AND ($6::date IS NULL OR created_at < ($6::date + 1)::timestamp AT TIME ZONE 'UTC')
  AND ($7::bigint IS NULL OR id < $7)
ORDER BY id DESC LIMIT $8

-- name: one
-- One suppression. $1 id.
SELECT id, address, reason, detail, created_at, until FROM service.suppressed_address WHERE id = $1
UNION ALL
SELECT id, NULL, reason, '', created_at, NULL FROM service.suppressed_key WHERE id = $1

-- name: evidence
-- What led to the suppression of an address: replies and reports about its mails, newest first. counted: it counts
-- against the address or the mailbox. $1 address in lower case, $2 limit.
WITH mail AS (
    SELECT id, job, kind, user_id, state, settled_at, smtp_code, smtp_reply,
           state IN ('bounced', 'complained') OR (state = 'failed' AND reason = 'hard_bounce') AS told
    FROM service.delivery_with_state WHERE lower(address) COLLATE "C" = $1 AND address IS NOT NULL AND channel = 'email'
), bounce AS (
    SELECT delivery_id, bounced_at FROM service.hard_bounce WHERE address = $1
    UNION SELECT delivery_id, bounced_at FROM service.mailbox_bounce WHERE address = $1
)
SELECT coalesce(m.id, b.delivery_id) AS delivery, m.job, m.kind, m.user_id, m.state, coalesce(b.bounced_at, m.settled_at) AS at,
       m.smtp_code, m.smtp_reply, b.delivery_id IS NOT NULL AS counted, m.id IS NOT NULL AS kept
FROM mail AS m FULL JOIN bounce AS b ON b.delivery_id = m.id
WHERE m.told OR b.delivery_id IS NOT NULL
ORDER BY at DESC NULLS LAST, delivery DESC LIMIT $2

-- name: accounts
-- The accounts with an address. $1 as suppressions name it.
SELECT id FROM service.users WHERE lower(email) = $1 OR lower(mail_address) = $1 ORDER BY id

-- name: lock
-- A suppression that is to be lifted. $1 id.
SELECT address, reason, created_at, fingerprint FROM service.suppression WHERE id = $1 FOR UPDATE

-- name: lock_rest
-- The same of a mailbox that rests.
SELECT address, 'mailbox_rest' AS reason, since AS created_at, fingerprint FROM service.mailbox_rest WHERE id = $1 FOR UPDATE

-- name: lock_key
-- The same of an address of which only the keyed hash is left.
SELECT NULL AS address, reason, created_at, NULL AS fingerprint FROM service.suppressed_key WHERE id = $1 FOR UPDATE

-- name: lift
-- The address is written to again, and what failed before counts no more. $1 id. Returns the deliveries of what counted.
WITH lifted AS (
    DELETE FROM service.suppression WHERE id = $1 RETURNING address
), rested AS (
    DELETE FROM service.mailbox_rest WHERE id = $1 RETURNING address
), key AS (
    DELETE FROM service.suppressed_key WHERE id = $1
), bounces AS (
    DELETE FROM service.hard_bounce WHERE address IN (SELECT address FROM lifted) RETURNING delivery_id
), full_mailboxes AS (
    DELETE FROM service.mailbox_bounce WHERE address IN (SELECT address FROM rested) RETURNING delivery_id
)
SELECT delivery_id FROM bounces UNION SELECT delivery_id FROM full_mailboxes

-- name: audit
-- Who lifted which suppression, and why.
INSERT INTO service.audit (who, act, what) VALUES ($1, 'lift-suppression', $2)
