-- What the heartbeats of steps told, for their next attempt.

-- name: keep_detail
INSERT INTO perdure.step_details (run, step, data, at)
VALUES (%(run)s::bigint, %(step)s, %(data)s::bytea, %(at)s::double precision)
ON CONFLICT (run, step) DO UPDATE SET data = excluded.data, at = excluded.at;

-- name: forget_detail
DELETE FROM perdure.step_details WHERE run = %(run)s::bigint AND step = %(step)s;

-- name: drop_details
-- Of runs that have ended.
DELETE FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[]);

-- name: details
SELECT run, step, data, at FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[])
ORDER BY run, at, step COLLATE "C";
