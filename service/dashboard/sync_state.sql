-- name: states
-- The state of each table.
SELECT * FROM service.sync_state

-- name: begin_first_load
-- Begin a first load, which finds anew what is malformed. Changes will be read from the newest update time ($3) on, if there is one.
WITH forgotten AS (DELETE FROM service.malformed_row WHERE collection = $1)
INSERT INTO service.sync_state (collection, phase, profile, watermark, last_id)
VALUES ($1, 'loading', $2, CASE WHEN $3::timestamptz IS NOT NULL THEN least($3, service.now()) END, '')
ON CONFLICT (collection) DO UPDATE SET
    phase = 'loading', profile = excluded.profile, watermark = excluded.watermark, last_id = '',
    rows_read = 0, rejected = '{}', error = NULL, pass_after = NULL, full_after = NULL
RETURNING *
