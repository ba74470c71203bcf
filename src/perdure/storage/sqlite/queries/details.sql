-- What the heartbeats of steps told, for their next attempt.

-- name: keep_detail
INSERT INTO step_details (run, step, data, at) VALUES (:run, :step, :data, :at)
ON CONFLICT (run, step) DO UPDATE SET data = excluded.data, at = excluded.at;

-- name: forget_detail
DELETE FROM step_details WHERE run = :run AND step = :step;

-- name: drop_details
-- Of runs that have ended.
DELETE FROM step_details WHERE run IN (SELECT value FROM json_each(:runs));

-- name: details
-- Of all these runs: [run, ...].
SELECT d.run, d.step, d.data, d.at
FROM json_each(:runs) AS i CROSS JOIN step_details AS d ON d.run = i.value
ORDER BY d.run, d.at, d.step;
