-- name: holder
-- Whose link this is: the user, the kind of the message, the dashboard's preferences. $1: token.
SELECT d.user_id, d.kind, coalesce(u.preferences, '{}') AS preferences
FROM service.delivery d LEFT JOIN service.users u ON u.id = d.user_id WHERE d.token = $1

-- name: overrides
-- What the person decided here before, for mail. $1: user.
SELECT kind, channel, enabled FROM service.preference_override WHERE user_id = $1 AND channel IN ('email', '*')

-- name: store
-- Remember decisions about mail. $1 user, $2 kinds, $3 on or off, $4 where it was decided.
INSERT INTO service.preference_override (user_id, kind, channel, enabled, source)
SELECT $1, kind, 'email', enabled, $4 FROM unnest($2::text[], $3::boolean[]) AS decided (kind, enabled)
ON CONFLICT (user_id, kind, channel) DO UPDATE
SET enabled = excluded.enabled, source = excluded.source, updated_at = service.now()
WHERE preference_override.enabled <> excluded.enabled

-- name: remark
-- Leave a trace of what a recipient did. $1 act, $2 what.
INSERT INTO service.audit (who, act, what) VALUES ('recipient', $1, $2)
