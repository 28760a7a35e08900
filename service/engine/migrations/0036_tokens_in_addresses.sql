-- expand
-- Tokens come back in mail addresses (bounce+u-TOKEN@…), whose case mail servers may change. New tokens are in lower case; those
-- of earlier releases, which have both cases, are found by this index. New ones are not in it.
CREATE INDEX delivery_old_token ON service.delivery (lower(token COLLATE "C")) WHERE token <> lower(token COLLATE "C");
