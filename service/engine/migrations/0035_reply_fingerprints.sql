-- expand
-- The words of the reply that counts against an address, so that all can be taken back whose words turned out to be about us.

ALTER TABLE service.hard_bounce ADD COLUMN fingerprint text;
ALTER TABLE service.suppression ADD COLUMN fingerprint text;
CREATE INDEX hard_bounce_fingerprint ON service.hard_bounce (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX suppression_fingerprint ON service.suppression (fingerprint) WHERE fingerprint IS NOT NULL;
