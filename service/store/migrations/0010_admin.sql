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
