-- Whether a message still counts as delivered, or on its way: for budgets, and so that it is not said twice. It does
-- also where it bounced; it does not where it never left, or was refused.
CREATE FUNCTION service.counts_as_delivered(state text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
    $$ SELECT state NOT IN ('skipped', 'missed', 'expired', 'cancelled', 'failed') $$;
