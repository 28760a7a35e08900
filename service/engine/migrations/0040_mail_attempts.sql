-- expand
-- What the wire says of mailboxes counts as reports do; reports count towards the brake as the wire does; a mail shows each of its
-- attempts; and an address is looked up in the form in which mail goes to it.

-- The form of an international address in which mail is sent to it, from here on; what was copied before is read again. NULL: it
-- is the address itself, or none.
ALTER TABLE service.users ADD COLUMN mail_address text;
UPDATE service.users SET digest = NULL WHERE octet_length(email) <> char_length(email);
CREATE INDEX users_mail_address ON service.users (lower(mail_address)) WHERE mail_address IS NOT NULL;
CREATE OR REPLACE VIEW service.recipient AS
SELECT u.id, u.name, u.email, coalesce(own.used, z.used) AS timezone, u.timezone_valid,
       coalesce(s.locale, u.locale) AS locale, u.active,
       CASE WHEN s.quiet_start IS NULL THEN u.preferences
            ELSE u.preferences || jsonb_build_object('quiet', jsonb_build_array(
                to_char(s.quiet_start, 'HH24:MI'), to_char(s.quiet_end, 'HH24:MI'))) END AS preferences,
       u.created_at, u.last_login_at, u.updated_at, coalesce(s.hours, '{}') AS hours, s.paused_until,
       lower(CASE WHEN octet_length(u.email) = char_length(u.email) THEN u.email ELSE coalesce(u.mail_address, u.email) END)
           AS mail_address  -- as suppressions name it
FROM service.users AS u
LEFT JOIN service.recipient_setting AS s ON s.user_id = u.id
LEFT JOIN service.zone AS own ON own.name = s.timezone
LEFT JOIN service.zone AS z ON z.name = u.timezone;

-- The words of the reply, by which all is taken back that turned out to be about us. Rests are listed and lifted as suppressions
-- are, by numbers of the same sequence.
ALTER TABLE service.mailbox_bounce ADD COLUMN fingerprint text;
ALTER TABLE service.mailbox_rest
    ADD COLUMN id          bigint      NOT NULL DEFAULT nextval('service.suppression_id'),
    ADD COLUMN since       timestamptz NOT NULL DEFAULT service.now(),
    ADD COLUMN fingerprint text;
CREATE INDEX mailbox_bounce_fingerprint ON service.mailbox_bounce (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE UNIQUE INDEX mailbox_rest_number ON service.mailbox_rest (id);

-- Addresses that are not written to, and until when.
CREATE VIEW service.suppressed_address AS
SELECT id, address, reason, detail, created_at, NULL::timestamptz AS until FROM service.suppression
UNION ALL
SELECT id, address, 'mailbox_rest', 'its mailbox was full or switched off three times within 14 days', since, until
FROM service.mailbox_rest WHERE until > service.now();

-- No dot is granted to a mailbox that begins to rest.
CREATE TRIGGER mailbox_rests AFTER INSERT OR UPDATE ON service.mailbox_rest
    FOR EACH ROW EXECUTE FUNCTION service.address_suppressed();

-- Claims of the last day that are over: which mails left together, so that a report can be held against its neighbours.
CREATE TABLE service.past_claim (
    id         bigint      PRIMARY KEY,
    ended_at   timestamptz NOT NULL DEFAULT service.now(),
    deliveries bigint[]    NOT NULL
);
CREATE INDEX past_claim_ended ON service.past_claim (ended_at);
CREATE FUNCTION service.claim_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO service.past_claim (id, deliveries) VALUES (OLD.id, OLD.deliveries) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER claim_ended AFTER DELETE ON service.delivery_claim FOR EACH ROW EXECUTE FUNCTION service.claim_ended();

-- The last 20 attempts of a mail that it did not leave with. An accepted mail costs nothing here.
CREATE TABLE service.delivery_attempt (
    delivery_id bigint      NOT NULL REFERENCES service.delivery ON DELETE CASCADE,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    ended_at    timestamptz NOT NULL DEFAULT service.now(),
    state       text        NOT NULL,  -- what became of the mail
    reason      text,
    smtp_code   int,
    smtp_reply  text,
    next_at     timestamptz,           -- when it is tried again; NULL: it is not
    PRIMARY KEY (delivery_id, id)
);
CREATE FUNCTION service.attempt_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO service.delivery_attempt (delivery_id, state, reason, smtp_code, smtp_reply, next_at)
    VALUES (NEW.id, NEW.state, NEW.reason, NEW.smtp_code, nullif(NEW.smtp_reply, ''),
            CASE NEW.state WHEN 'planned' THEN NEW.not_before END);
    DELETE FROM service.delivery_attempt WHERE delivery_id = NEW.id AND id <= (
        SELECT id FROM service.delivery_attempt WHERE delivery_id = NEW.id ORDER BY id DESC OFFSET 20 LIMIT 1);
    RETURN NULL;
END $$;
CREATE TRIGGER attempt_ended AFTER UPDATE OF smtp_reply ON service.delivery_state FOR EACH ROW
    WHEN (NEW.smtp_reply IS NOT NULL AND NEW.state IN ('planned', 'failed', 'unconfirmed'))
    EXECUTE FUNCTION service.attempt_ended();
