-- name: user_exists
-- Whether the dashboard's copy has this user. $1: user.
SELECT EXISTS (SELECT 1 FROM service.users WHERE id = $1)

-- name: now
-- The database's time: the date of the mail, and the moment to decide for.
SELECT service.now()

-- name: audit
-- An entry in the audit log for a test mail. $1 actor, $2 details.
INSERT INTO service.audit (who, act, what) VALUES ($1, 'test-send', $2)

-- name: delivery
-- A message of the outbox; a notification with its stored text. $1 id.
SELECT d.channel, d.state, d.template, d.facts, d.recipient_name, d.address, d.message_id, d.message_date, d.token, d.kind,
       d.job, d.locale, n.title, n.message, n.action ->> 'buttonText' AS button
FROM service.delivery_with_state AS d LEFT JOIN service.notification AS n ON n.delivery_id = d.id
WHERE d.id = $1
