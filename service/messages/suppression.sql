-- name: adopt
-- A mail that an earlier release sent. $1 id.
SELECT service.adopt_deliveries(ARRAY[$1::bigint])

-- name: record_bounce
-- It came back: about the address, the mailbox, us or the way. Zero rows: no such delivery, or the report is known.
-- $1 id, $2 diagnostic, $3 the reason.
UPDATE service.delivery_state SET state = 'bounced', reason = $3, smtp_reply = left($2, 500), settled_at = service.now()
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed') RETURNING id

-- name: note_report
-- What an unsigned report says changes nothing but the note. $1 id, $2 diagnostic.
UPDATE service.delivery_state SET detail = left($2, 500)
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed') AND detail IS DISTINCT FROM left($2, 500) RETURNING id

-- name: address_of
-- To whom a delivery went. $1 id.
SELECT address FROM service.delivery WHERE id = $1 AND channel = 'email'

-- name: by_message_id
-- The mails with these Message-IDs. $1: without brackets.
SELECT id, dedupe_key, message_id FROM service.delivery WHERE message_id = ANY ($1::text[]) AND channel = 'email' LIMIT 2

-- name: record_complaint
-- The recipient reported it as spam: the address is suppressed, for that from now on. $1 id, $2 diagnostic.
WITH complained AS (
    UPDATE service.delivery_state AS s SET state = 'complained', reason = 'complaint', smtp_reply = left($2, 500),
                                           settled_at = service.now()
    FROM service.delivery AS d
    WHERE s.id = $1 AND d.id = s.id AND s.state IN ('sent', 'sending', 'unconfirmed', 'bounced') RETURNING s.id, d.address
), suppressed AS (
    INSERT INTO service.suppression (address, reason, detail)
    SELECT lower(address), 'complaint', 'the recipient called a mail spam' FROM complained
    ON CONFLICT (address) DO UPDATE SET reason = excluded.reason, detail = excluded.detail WHERE suppression.reason <> 'complaint'
)
SELECT id FROM complained

-- name: record_arrival
-- A report of a delay or an arrival: the server had accepted the message. $1 id, $2 diagnostic.
UPDATE service.delivery_state SET detail = left($2, 500),
    state = CASE state WHEN 'unconfirmed' THEN 'sent' ELSE state END,
    reason = CASE state WHEN 'unconfirmed' THEN 'confirmed_by_report' ELSE reason END
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed')
  AND (state = 'unconfirmed' OR detail IS DISTINCT FROM left($2, 500)) RETURNING id
