-- name: adopt
-- A mail that an earlier release sent. $1 id.
SELECT service.adopt_deliveries(ARRAY[$1::bigint])

-- name: record_hard_bounce
-- The address refuses mail. Zero rows: no such delivery, or the report is known. $1 id, $2 diagnostic.
UPDATE service.delivery_state SET state = 'bounced', reason = 'hard_bounce', smtp_reply = left($2, 500), settled_at = service.now()
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed') RETURNING id

-- name: record_complaint
-- The recipient reported it as spam: the address is suppressed. $1 id, $2 diagnostic.
WITH complained AS (
    UPDATE service.delivery_state AS s SET state = 'complained', reason = 'complaint', smtp_reply = left($2, 500),
                                           settled_at = service.now()
    FROM service.delivery AS d
    WHERE s.id = $1 AND d.id = s.id AND s.state IN ('sent', 'sending', 'unconfirmed', 'bounced') RETURNING s.id, d.address
), suppressed AS (
    INSERT INTO service.suppression (address, reason, detail)
    SELECT lower(address), 'complaint', 'the recipient called a mail spam' FROM complained ON CONFLICT (address) DO NOTHING
)
SELECT id FROM complained

-- name: record_arrival
-- A report of a temporary failure, a delay or an arrival: the server had accepted the message. $1 id, $2 diagnostic.
UPDATE service.delivery_state SET detail = left($2, 500),
    state = CASE state WHEN 'unconfirmed' THEN 'sent' ELSE state END,
    reason = CASE state WHEN 'unconfirmed' THEN 'confirmed_by_report' ELSE reason END
WHERE id = $1 AND state IN ('sent', 'sending', 'unconfirmed')
  AND (state = 'unconfirmed' OR detail IS DISTINCT FROM left($2, 500)) RETURNING id
