-- Updates: messages to runs that have an answer.

-- name: update_row
-- An update that is there, and whether the run that was to handle it has ended.
SELECT u.state, r.ended_at IS NOT NULL
FROM updates AS u CROSS JOIN runs AS r ON r.run = u.run
WHERE u.run_id = :run_id AND u.id = :id;

-- name: request_update
INSERT INTO updates (run_id, id, run, call, state) VALUES (:run_id, :id, :run, :call, 'requested')
ON CONFLICT (run_id, id) DO UPDATE
SET run = excluded.run, call = excluded.call, state = 'requested', answer = NULL;

-- name: set_update
UPDATE updates SET state = :state, answer = :answer
WHERE run_id = (SELECT id FROM runs WHERE run = :run) AND id = :id;

-- name: update_rows
-- The updates with these [run id, update id]s.
SELECT u.run_id, u.id, u.state, u.answer, r.ended_at IS NOT NULL, u.call
FROM json_each(:keys) AS k
     CROSS JOIN updates AS u ON u.run_id = k.value ->> 0 AND u.id = k.value ->> 1
     CROSS JOIN runs AS r ON r.run = u.run;
