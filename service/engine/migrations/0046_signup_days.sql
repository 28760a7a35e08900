-- expand
-- signup_day as a table of one row: the planner puts it into the asking query, while a function that returns one value
-- and reads tables is called for each row, and may even be planned each time.
CREATE FUNCTION service.signup_days(wanted text, created timestamptz) RETURNS TABLE (day date) LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT coalesce((SELECT service.local_time(created, k)::date
                     FROM (SELECT timezone FROM service.user_zone
                           WHERE user_id = wanted AND since <= created ORDER BY since DESC LIMIT 1) AS u
                     JOIN service.zone AS k ON k.name = u.timezone),
                    (created AT TIME ZONE 'UTC')::date)
$$;
