-- name: address_of
-- To whom a mail went. $1 id.
SELECT lower(address) FROM service.delivery WHERE id = $1 AND channel = 'email'

-- name: of_message
-- The mail to an address ($1, lower case) with one of these Message-IDs ($2).
SELECT id FROM service.delivery
WHERE lower(address) COLLATE "C" = $1 AND address IS NOT NULL AND channel = 'email' AND message_id = ANY ($2::text[])
ORDER BY id DESC LIMIT 1

-- name: last_to
-- The last mail that had left to an address ($1, lower case) at a time ($2), of 30 days; the clocks may differ by a minute.
SELECT id FROM service.delivery_with_state
WHERE lower(address) COLLATE "C" = $1 AND address IS NOT NULL AND channel = 'email'
  AND state IN ('sending', 'sent', 'unconfirmed', 'bounced', 'complained')
  AND dot_at <= $2::timestamptz + interval '1 minute' AND dot_at > $2::timestamptz - interval '30 days'
ORDER BY dot_at DESC, id DESC LIMIT 1

-- name: suppress
-- A provider sends nothing to an address ($1, lower case) any more: $2 the reason, $3 the same in words. Zero rows: it is known, or
-- we never wrote to it.
INSERT INTO service.suppression (address, reason, detail)
SELECT $1, $2, $3
WHERE EXISTS (SELECT FROM service.delivery WHERE lower(address) COLLATE "C" = $1 AND address IS NOT NULL AND channel = 'email')
ON CONFLICT (address) DO UPDATE SET reason = excluded.reason, detail = excluded.detail
WHERE excluded.reason = 'complaint' AND suppression.reason <> 'complaint' RETURNING id

-- name: listed
-- The suppression of an address ($1, lower case).
SELECT id FROM service.suppression WHERE address = $1
