-- name: ages
-- Open goals at $1 by their age.
SELECT count(*) FILTER (WHERE created_at > $1::timestamptz - interval '30 days') AS young,
       count(*) FILTER (WHERE created_at <= $1 - interval '30 days') AS old
FROM service.goals WHERE open AND created_at <= $1
