-- The step that planned a message, as W3C trace context: attempts at it hang below that step, whichever process makes them.
ALTER TABLE service.delivery ADD COLUMN traceparent text;   -- NULL: the run was not traced
