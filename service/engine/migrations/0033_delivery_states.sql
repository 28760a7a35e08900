-- expand
-- How a mail stands lies in a narrow row of its own: what was planned is written once, and three small updates are all that
-- sending costs. service.delivery keeps the state of notifications, and of mails of releases before this one, until they are
-- adopted.

ALTER TABLE service.delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE service.delivery ADD CONSTRAINT delivery_state_check
    CHECK (state IN ('planned', 'claimed', 'sending', 'sent', 'failed', 'unconfirmed', 'skipped', 'missed', 'expired',
                     'cancelled', 'bounced', 'complained', 'in_delivery_state')) NOT VALID;

-- Mails that one process has claimed together, and until when they are its own.
CREATE TABLE service.delivery_claim (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner      text        NOT NULL,
    until      timestamptz NOT NULL,
    deliveries bigint[]    NOT NULL
);

-- The common path (claimed, sending, sent) changes no indexed column after the claim, so these updates touch no index.
-- A page has room for other versions of its rows: one statement writes those of neighbours.
CREATE TABLE service.delivery_state (
    id         bigint      PRIMARY KEY REFERENCES service.delivery ON DELETE CASCADE,
    state      text        NOT NULL DEFAULT 'planned'
                           CHECK (state IN ('planned', 'claimed', 'sending', 'sent', 'failed', 'unconfirmed', 'skipped', 'missed',
                                            'expired', 'cancelled', 'bounced', 'complained')),
    claim      bigint,                   -- the last claim, whose process may write here; 0: none ever; NULL: it waits
    job        text        NOT NULL,
    kind       text        NOT NULL,
    domain     text        COLLATE "C",  -- of the recipient, in lower case
    not_before timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    attempt    int         NOT NULL DEFAULT 0,
    resends    int         NOT NULL DEFAULT 0,
    dot_at     timestamptz,              -- recorded before the final dot is written
    settled_at timestamptz,
    reason     text,
    detail     text,
    smtp_code  int,
    smtp_reply text,
    problem    text        GENERATED ALWAYS AS (CASE WHEN state IN ('failed', 'unconfirmed', 'skipped', 'missed', 'expired', 'cancelled',
                                                                    'bounced', 'complained') THEN state END) STORED,
    CHECK ((claim IS NULL) = (state = 'planned'))
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX delivery_state_due ON service.delivery_state (not_before, id) WHERE claim IS NULL;             -- claim
CREATE INDEX delivery_state_domain ON service.delivery_state (domain, not_before, id) WHERE claim IS NULL;  -- claim, past the blocked
CREATE INDEX delivery_state_problem ON service.delivery_state (problem, id) WHERE problem IS NOT NULL;      -- lists of all but sent
CREATE INDEX delivery_state_reason ON service.delivery_state (reason, id) WHERE reason IS NOT NULL;
CREATE INDEX delivery_own_state ON service.delivery (id) WHERE state <> 'in_delivery_state';                -- lists: no mails of ours
CREATE INDEX delivery_old_mail ON service.delivery (id) WHERE state <> 'in_delivery_state' AND channel = 'email';

-- Messages as they stand, wherever their state lies.
CREATE VIEW service.delivery_with_state AS
SELECT d.id, d.dedupe_key, d.channel, d.job, d.run_id, d.kind, d.user_id, d.zone, d.local_date, d.template, d.locale, d.address,
       d.recipient_name, d.facts, d.message_id, d.message_date, d.token, d.unconfirmed_policy, d.domain, d.planned_at, d.traceparent,
       d.state, d.reason, d.detail, d.attempt, d.resends, d.not_before, d.expires_at, d.dot_at, d.settled_at, d.smtp_code,
       d.smtp_reply, CASE WHEN d.state IN ('failed', 'unconfirmed', 'skipped', 'missed', 'expired', 'cancelled', 'bounced',
                                           'complained') THEN d.state END AS problem
FROM service.delivery AS d WHERE d.state <> 'in_delivery_state'
UNION ALL
SELECT d.id, d.dedupe_key, d.channel, d.job, d.run_id, d.kind, d.user_id, d.zone, d.local_date, d.template, d.locale, d.address,
       d.recipient_name, d.facts, d.message_id, d.message_date, d.token, d.unconfirmed_policy, d.domain, d.planned_at, d.traceparent,
       s.state, s.reason, s.detail, s.attempt, s.resends, s.not_before, s.expires_at, s.dot_at, s.settled_at, s.smtp_code,
       s.smtp_reply, s.problem
FROM service.delivery_state AS s JOIN service.delivery AS d USING (id);

-- Gives mails of an earlier release ($1: their ids) a row here; returns how many. What such a release has in hand is left to it.
CREATE FUNCTION service.adopt_deliveries(wanted bigint[]) RETURNS bigint LANGUAGE sql AS $$
    WITH old AS MATERIALIZED (
        SELECT * FROM service.delivery
        WHERE id = ANY (wanted) AND channel = 'email' AND state <> 'in_delivery_state'
          AND (state NOT IN ('claimed', 'sending') OR lease_until < service.now())
        ORDER BY id FOR UPDATE SKIP LOCKED
    ), marked AS (
        UPDATE service.delivery AS d SET state = 'in_delivery_state', owner = NULL, lease_until = NULL, epoch = d.epoch + 1
        FROM old WHERE d.id = old.id
    ), adopted AS (
        INSERT INTO service.delivery_state (id, state, claim, job, kind, domain, not_before, expires_at, attempt, resends, dot_at,
                                            settled_at, reason, detail, smtp_code, smtp_reply)
        SELECT id, n.state, CASE WHEN n.state <> 'planned' THEN 0 END, job, kind, domain,
               CASE WHEN old.state = 'sending' THEN service.now() + interval '15 minutes' ELSE not_before END,
               expires_at, attempt, resends, dot_at, settled_at,
               CASE WHEN old.state = 'sending' THEN 'the sender died after the final dot was due' ELSE reason END,
               detail, smtp_code, smtp_reply
        FROM old CROSS JOIN LATERAL (
            SELECT CASE old.state WHEN 'claimed' THEN 'planned' WHEN 'sending' THEN 'unconfirmed' ELSE old.state END AS state) AS n
        RETURNING id
    )
    SELECT count(*) FROM adopted
$$;

-- What a recipient decides, and what an address tells us, is read at the claim. Who changes it takes back what is claimed
-- for them, so that no dot is granted after that; the next claim reads it again. What waits is written as well: a claim
-- that is under way, and has read what was true before, passes over it.
CREATE FUNCTION service.release_claimed(wanted bigint[]) RETURNS void LANGUAGE sql AS $$
    UPDATE service.delivery_state SET state = 'planned', claim = NULL,
        attempt = CASE state WHEN 'claimed' THEN greatest(attempt - 1, 0) ELSE attempt END
    WHERE id = ANY (ARRAY(SELECT id FROM service.delivery_state WHERE id = ANY (wanted) AND state IN ('planned', 'claimed')
                          ORDER BY id FOR UPDATE))
$$;
CREATE FUNCTION service.recipient_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM service.release_claimed(ARRAY(SELECT id FROM service.delivery WHERE user_id = NEW.user_id AND state = 'in_delivery_state'));
    RETURN NULL;
END $$;
CREATE TRIGGER choices_changed AFTER INSERT OR UPDATE ON service.preference_override
    FOR EACH ROW EXECUTE FUNCTION service.recipient_changed();
CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE ON service.recipient_setting
    FOR EACH ROW EXECUTE FUNCTION service.recipient_changed();
CREATE FUNCTION service.address_suppressed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM service.release_claimed(ARRAY(SELECT id FROM service.delivery
        WHERE lower(address) COLLATE "C" = NEW.address AND address IS NOT NULL AND state = 'in_delivery_state'));
    RETURN NULL;
END $$;
CREATE TRIGGER address_suppressed AFTER INSERT ON service.suppression
    FOR EACH ROW EXECUTE FUNCTION service.address_suppressed();

-- The same question was written out in every statement.
CREATE FUNCTION service.gate_covers(scope text, name text, job text, kind text, domain text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$SELECT scope = 'all' OR (scope = 'job' AND name = job) OR (scope = 'kind' AND name = kind) OR (scope = 'domain' AND name = domain)$$;
