-- name: adopt
-- A mail that an earlier release sent. $1 id.
SELECT service.adopt_deliveries(ARRAY[$1::bigint])

-- name: record_hard_bounce
-- The address refuses mail. Zero rows: no such delivery, or the report is known. $1 id, $2 diagnostic.
UPDATE service.delivery_state SET state = 'bounced', reason = 'hard_bounce', smtp_reply = left($2, 500), settled_at = service.now()
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed') RETURNING id

-- name: record_other_bounce
-- It came back for another reason: about the mailbox, us or the way. Zero rows: no such delivery, or the report is known.
-- $1 id, $2 diagnostic, $3 the reason.
UPDATE service.delivery_state SET state = 'bounced', reason = $3, smtp_reply = left($2, 500), settled_at = service.now()
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed') RETURNING id

-- name: lock_address
-- Reports about one address wait for each other until the end of the transaction. $1 id of a delivery.
SELECT pg_advisory_xact_lock(hashtext('mailbox:' || lower(address))) FROM service.delivery WHERE id = $1

-- name: note_mailbox_bounce
-- The mailbox was full or switched off: with the third within 14 days the address rests for 7, then 30, then 90 days; a rest
-- that ended more than 90 days ago is forgotten. $1 id.
WITH bounced AS (
    INSERT INTO service.mailbox_bounce (address, delivery_id) SELECT lower(address), id FROM service.delivery WHERE id = $1
    ON CONFLICT DO NOTHING RETURNING address  -- this statement does not see its own row: two others are enough
), enough AS (
    SELECT address FROM bounced LEFT JOIN service.mailbox_rest AS r USING (address)
    WHERE (SELECT count(*) FROM service.mailbox_bounce AS b
           WHERE b.address = bounced.address AND b.bounced_at > service.now() - interval '14 days'
             AND b.bounced_at > coalesce(r.until, '-infinity')) >= 2
), cleared AS (
    DELETE FROM service.mailbox_bounce AS b USING bounced
    WHERE b.address = bounced.address AND b.bounced_at <= service.now() - interval '14 days'
)
INSERT INTO service.mailbox_rest AS r (address, rests, until) SELECT address, 1, service.now() + interval '7 days' FROM enough
ON CONFLICT (address) DO UPDATE SET
    rests = CASE WHEN r.until < service.now() - interval '90 days' THEN 1 ELSE r.rests + 1 END,
    until = service.now() + CASE WHEN r.until < service.now() - interval '90 days' THEN interval '7 days'
                                 WHEN r.rests = 1 THEN interval '30 days' ELSE interval '90 days' END

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
