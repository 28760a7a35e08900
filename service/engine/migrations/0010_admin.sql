-- What operators need: ways to find messages, and acts that are carried out once however often they are sent.

CREATE INDEX delivery_address ON service.delivery ((lower(address) COLLATE "C")) WHERE address IS NOT NULL;  -- prefix
CREATE INDEX delivery_date ON service.delivery USING brin (local_date);
CREATE INDEX delivery_failed ON service.delivery (id) WHERE state = 'failed';                                -- bulk retry

-- The answers to acts that came with an Idempotency-Key, for a day. status NULL: under way in another transaction.
CREATE TABLE service.idempotency (
    key        text        PRIMARY KEY,
    request    text        NOT NULL,             -- SHA-256 of method, path and body
    status     int,
    answer     text,
    created_at timestamptz NOT NULL DEFAULT service.now()
);
CREATE INDEX idempotency_age ON service.idempotency (created_at);

-- Every attempt at a run: who, when, and how it ended. Written by a trigger, so that no way a run changes hands is missed.
CREATE TABLE service.run_attempt (
    run_id     bigint      NOT NULL REFERENCES service.job_run ON DELETE CASCADE,
    epoch      bigint      NOT NULL,
    owner      text,
    started_at timestamptz NOT NULL DEFAULT service.now(),
    ended_at   timestamptz,
    state      text        NOT NULL DEFAULT 'running',   -- what became of the run then; lost: the owner was taken for dead
    reason     text,
    error      text,
    PRIMARY KEY (run_id, epoch)
);

CREATE FUNCTION service.note_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state = 'running' THEN
        UPDATE service.run_attempt SET ended_at = service.now(), reason = NEW.reason,
            state = CASE WHEN NEW.state = 'running' THEN 'lost' ELSE NEW.state END,
            error = CASE WHEN NEW.state <> 'running' THEN NEW.error END
        WHERE run_id = NEW.id AND epoch = OLD.epoch;
    END IF;
    IF NEW.state = 'running' THEN
        INSERT INTO service.run_attempt (run_id, epoch, owner) VALUES (NEW.id, NEW.epoch, NEW.owner);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER run_attempts AFTER UPDATE ON service.job_run FOR EACH ROW
    WHEN (OLD.state IS DISTINCT FROM NEW.state OR OLD.epoch <> NEW.epoch) EXECUTE FUNCTION service.note_attempt();
