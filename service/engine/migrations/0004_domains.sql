-- Mail by the recipient's domain: which of them have asked us to wait, and a way past them.

ALTER TABLE service.delivery
    ADD COLUMN domain text COLLATE "C" GENERATED ALWAYS AS (lower(split_part(address, '@', 2))) STORED;   -- NULL for in-app
CREATE INDEX delivery_domain ON service.delivery (domain, not_before, id) WHERE state = 'planned';   -- claim, past the blocked

-- Domains that answered "later". A row stays after its pause until a mail gets through, so that the next pause is longer.
CREATE TABLE service.domain_pause (
    domain   text        COLLATE "C" PRIMARY KEY,
    failures int         NOT NULL,           -- pauses in a row
    until    timestamptz NOT NULL,
    reply    text        NOT NULL
);
