-- How far the dashboard's change stream has been followed, so that another process can go on from there.
CREATE TABLE service.change_stream (
    token text        NOT NULL,                        -- everything up to this position is in the copy
    at    timestamptz NOT NULL                         -- when it was stored
);
CREATE UNIQUE INDEX change_stream_one_row ON service.change_stream ((true));

-- Documents of the dashboard that cannot be read, or that hold values which cannot: each is read again only when it changes.
CREATE TABLE service.malformed_row (
    collection text    NOT NULL,                       -- users | goals | timer_sessions
    id         text    NOT NULL,
    digest     bigint,                                 -- of the document as it was read
    left_out   boolean NOT NULL,                       -- the copy does not have it; else only the values were left out
    reasons    text[]  NOT NULL,
    PRIMARY KEY (collection, id)
);
