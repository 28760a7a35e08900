-- name: block_erasure
-- Nobody is erased until this transaction ends.
SELECT pg_advisory_xact_lock_shared(hashtext('service.erasure'))

-- name: existing_users
-- Those of these users that exist.
SELECT id FROM service.users WHERE id = ANY ($1::text[])

-- name: contact_history
-- Recipients' choices, whether their addresses are suppressed, and the messages planned for them within nine days.
SELECT u.id AS user_id,
       (SELECT jsonb_agg(jsonb_build_array(o.kind, o.channel, o.enabled))
        FROM service.preference_override AS o WHERE o.user_id = u.id) AS overrides,
       EXISTS (SELECT 1 FROM service.suppression AS s WHERE s.address = lower(u.email))
       OR EXISTS (SELECT FROM service.suppressed_key) AND EXISTS (
           SELECT FROM service.suppressed_key AS k WHERE k.address_key = service.keyed_hash(lower(u.email)))
       OR EXISTS (SELECT FROM service.mailbox_rest AS m WHERE m.address = lower(u.email) AND m.until > $3::timestamptz) AS suppressed,
       s.paused_until,
       CASE WHEN s.quiet_start IS NOT NULL THEN jsonb_build_array(s.quiet_start, s.quiet_end) END AS quiet,
       (SELECT jsonb_agg(jsonb_build_array(d.kind, d.channel, d.local_date, d.dedupe_key))
        FROM service.delivery_with_state AS d
        WHERE d.user_id = u.id AND d.local_date BETWEEN $3::timestamptz::date - 9 AND $3::timestamptz::date + 9
          AND service.counts_as_delivered(d.state)) AS past
FROM unnest($1::text[], $2::text[]) AS u(id, email)
LEFT JOIN service.recipient_setting AS s ON s.user_id = u.id

-- name: lock_budget
-- Nobody else plans nudges until the end of the transaction.
SELECT pg_advisory_xact_lock(1852073063)

-- name: plan
-- Insert messages with their stages and in-app notifications, all or none. An existing dedupe key is left unchanged:
-- that message was decided before, by this process, by another, or by this run before a crash.
WITH incoming AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS m(
        dedupe_key text, channel text, job text, run_id bigint, kind text, user_id text, zone text, local_date date,
        template text, locale text, address text, recipient_name text, facts jsonb, message_id text,
        message_date timestamptz, token text, unconfirmed_policy text, not_before timestamptz, expires_at timestamptz,
        in_app jsonb, stages text[], traceparent text)
), planned AS (
    INSERT INTO service.delivery (dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, template, locale,
        address, recipient_name, facts, message_id, message_date, token, unconfirmed_policy, not_before, expires_at,
        traceparent, state, settled_at)
    SELECT dedupe_key, channel, job, run_id, kind, user_id, zone, local_date, template, locale,
        address, recipient_name, facts, message_id, message_date, token, unconfirmed_policy, not_before, expires_at,
        traceparent, CASE channel WHEN 'in_app' THEN 'sent' ELSE 'in_delivery_state' END,
        CASE channel WHEN 'in_app' THEN service.now() END
    FROM incoming
    ON CONFLICT (dedupe_key, channel) DO NOTHING
    RETURNING id, dedupe_key, channel, job, kind, domain, not_before, expires_at
), waiting AS (
    INSERT INTO service.delivery_state (id, job, kind, domain, not_before, expires_at)
    SELECT id, job, kind, domain, not_before, expires_at FROM planned WHERE channel = 'email'
), staged AS (
    INSERT INTO service.delivery_stage (stage_key, delivery_id)
    SELECT stage, p.id FROM incoming AS m JOIN planned AS p USING (dedupe_key, channel), unnest(m.stages) AS stage
    ON CONFLICT DO NOTHING
), notifications AS (
    INSERT INTO service.notification (delivery_id, user_id, type, title, message, data, priority, action,
                                      visible_from, expires_at, write_at)
    SELECT p.id, m.user_id, m.in_app ->> 'type', left(m.in_app ->> 'title', 100), left(m.in_app ->> 'message', 500),
           coalesce(m.in_app -> 'data', '{}'), coalesce(m.in_app ->> 'priority', 'medium'), m.in_app -> 'action',
           m.not_before, m.not_before + (m.in_app ->> 'life')::interval,
           CASE WHEN (m.in_app ->> 'to_dashboard')::boolean THEN m.not_before END
    FROM incoming AS m JOIN planned AS p USING (dedupe_key, channel) WHERE m.channel = 'in_app'
)
SELECT dedupe_key, channel FROM planned

-- name: existing_messages
-- Those of these messages that exist.
SELECT dedupe_key, channel FROM service.delivery WHERE dedupe_key = ANY ($1)
