-- An act that asked for a run is answered by how that run ends, whoever carries it out and whoever dies meanwhile.

ALTER TABLE service.idempotency ADD COLUMN run_id bigint;   -- of the ledger; written in the transaction that asked for the run
