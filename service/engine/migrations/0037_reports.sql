-- expand
-- What reports say of mailboxes, and the mail that a report names by its Message-ID only.

CREATE INDEX delivery_message_id ON service.delivery USING hash (message_id) WHERE channel = 'email';

-- Mails that came back because a mailbox was full or switched off. Three within 14 days, and the address rests.
CREATE TABLE service.mailbox_bounce (
    address     text        NOT NULL,                        -- lower case
    delivery_id bigint      NOT NULL,
    bounced_at  timestamptz NOT NULL DEFAULT service.now(),
    PRIMARY KEY (address, delivery_id)
);

-- Addresses to which no mail is sent until a time, for their mailbox was full or switched off.
CREATE TABLE service.mailbox_rest (
    address text        PRIMARY KEY,                         -- lower case
    rests   int         NOT NULL,                            -- how many in a row: 7, 30, then 90 days
    until   timestamptz NOT NULL
);
