-- A full synchronisation that somebody asked for: every row of a table is read again, by whichever process synchronises,
-- and goes on where it stopped.
ALTER TABLE service.sync_state
    ADD COLUMN full_after text,                                 -- its position; NULL: there is none under way
    ADD COLUMN full_rows  bigint NOT NULL DEFAULT 0,            -- rows read by it so far
    ADD COLUMN full_since timestamptz;                          -- when it was asked for
