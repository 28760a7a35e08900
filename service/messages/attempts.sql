-- name: attempts
-- The last attempts of a mail, the oldest first; when it was accepted is told by its state. $1 id.
SELECT ended_at AS at, state, reason, smtp_code, smtp_reply, next_at FROM service.delivery_attempt WHERE delivery_id = $1
UNION ALL
SELECT CASE state WHEN 'sent' THEN settled_at ELSE dot_at END, 'sent', NULL,
       CASE state WHEN 'sent' THEN smtp_code END, CASE state WHEN 'sent' THEN smtp_reply END, NULL
FROM service.delivery_with_state WHERE id = $1 AND channel = 'email' AND state IN ('sent', 'bounced', 'complained')
ORDER BY at

-- name: exists
-- Whether there is such a message. $1 id.
SELECT EXISTS (SELECT FROM service.delivery WHERE id = $1)
