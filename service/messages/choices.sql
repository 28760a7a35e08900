-- name: store_choices
-- Store choices. $1 user, $2 kinds, $3 on or off, $4 source, $5 channels.
INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)
SELECT $1, kind, channel, enabled, $4 FROM unnest($2::text[], $3::boolean[], $5::text[]) AS decided (kind, enabled, channel)
ON CONFLICT (user_id, kind, channel) DO UPDATE
SET enabled = excluded.enabled, source = excluded.source, updated_at = service.now()
WHERE preference_override.enabled <> excluded.enabled

-- name: audit
-- An entry in the audit log for a recipient. $1 action, $2 details.
INSERT INTO service.audit (who, act, what) VALUES ('recipient', $1, $2)

-- name: mail_of_token
-- The mail with a token that came back in a mail address. $1 token, $2 the same in lower case, as new tokens are.
SELECT id, user_id, kind FROM service.delivery WHERE token = ANY (ARRAY[$1, $2]::text[]) ORDER BY token = $1 DESC LIMIT 1

-- name: mails_of_old_token
-- The mails of earlier releases, whose tokens have both cases, with this one, after a mail server changed its case: two at the
-- most, and then nobody knows which is meant. $1 token in lower case.
SELECT id, user_id, kind FROM service.delivery
WHERE lower(token COLLATE "C") = $1 AND token <> lower(token COLLATE "C") LIMIT 2
