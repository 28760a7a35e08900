-- name: limit_lock_wait
-- A row that is being written elsewhere is waited for only shortly: both sides could wait for each other.
SELECT set_config('lock_timeout', '500ms', true)

-- name: lock_claimed
-- Those of these mails ($1 ids, $2 claims) that are still ours, and certainly not sent; they stay locked.
SELECT s.id FROM service.delivery_state AS s JOIN unnest($1::bigint[], $2::bigint[]) AS mine(id, claim) USING (id, claim)
WHERE s.state = 'claimed' AND s.dot_at IS NULL ORDER BY s.id FOR UPDATE OF s

-- name: unsent
-- Those of these messages that are decided again now, with the run that decided them: one of each person.
SELECT DISTINCT ON (d.user_id) d.id, d.dedupe_key, d.channel, d.job, d.user_id, d.zone, d.message_date, d.facts,
       d.run_id, coalesce(r.trigger, 'cron') AS trigger, coalesce(r.options, '{}') AS options, service.now() AS claimed_at
FROM service.delivery AS d LEFT JOIN service.job_run AS r ON r.id = d.run_id
WHERE d.id = ANY ($1::bigint[]) ORDER BY d.user_id, d.id

-- name: adopt
-- Mails of an earlier release with these keys.
SELECT service.adopt_deliveries(ARRAY(
    SELECT id FROM service.delivery WHERE dedupe_key = ANY ($1::text[]) AND channel = 'email' AND state = 'planned'))

-- name: lock_mails
-- The mails with these keys that have certainly not been sent; they stay locked. One that is being sent now is left out.
SELECT s.id, d.dedupe_key, d.channel FROM service.delivery_state AS s JOIN service.delivery AS d USING (id)
WHERE d.dedupe_key = ANY ($1::text[]) AND d.channel = 'email' AND s.state IN ('planned', 'claimed') AND s.dot_at IS NULL
FOR UPDATE OF s SKIP LOCKED

-- name: lock_notifications
-- The notifications with these keys that nobody has read, and the dashboard does not have; the same.
SELECT d.id, d.dedupe_key, d.channel FROM service.delivery AS d JOIN service.notification AS n ON n.delivery_id = d.id
WHERE d.dedupe_key = ANY ($1::text[]) AND d.channel = 'in_app' AND d.state = 'sent'
  AND n.read_at IS NULL AND n.delivered_at IS NULL AND n.withdrawn_at IS NULL
FOR UPDATE SKIP LOCKED

-- name: hide
-- For the decision these messages ($1) do not exist; this is undone after it.
WITH stages AS (DELETE FROM service.delivery_stage WHERE delivery_id = ANY ($1::bigint[])),
    mails AS (UPDATE service.delivery_state SET state = 'skipped', claim = 0 WHERE id = ANY ($1::bigint[]))
UPDATE service.delivery SET state = 'skipped' WHERE id = ANY ($1::bigint[]) AND state <> 'in_delivery_state'

-- name: zone
-- The zone in which a person is now; no row: there is no such person any more.
SELECT timezone FROM service.recipient WHERE id = $1

-- name: end
-- These messages end unsent, and what they would have announced may be announced by others. A message whose slot is not the
-- person's any more gives its key back: the slot of the other zone on the same date decides.
WITH mails AS (
    UPDATE service.delivery_state AS s SET state = 'skipped', reason = e.reason, detail = e.detail, settled_at = service.now(),
        claim = coalesce(s.claim, 0)
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS e(id, reason, detail) WHERE s.id = e.id
), ended AS (
    UPDATE service.delivery AS d SET
        state = CASE WHEN d.state = 'in_delivery_state' THEN d.state ELSE 'skipped' END, reason = e.reason, detail = e.detail,
        settled_at = service.now(),
        dedupe_key = CASE WHEN e.reason = 'tz_change' THEN d.dedupe_key || ':tz' || d.id ELSE d.dedupe_key END
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS e(id, reason, detail) WHERE d.id = e.id RETURNING d.id
), stages AS (
    DELETE FROM service.delivery_stage WHERE delivery_id IN (SELECT id FROM ended)
)
UPDATE service.notification SET withdrawn_at = service.now(), write_at = NULL
WHERE delivery_id IN (SELECT id FROM ended)
