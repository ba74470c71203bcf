-- Updates: messages to runs that have an answer.

-- name: update_row
-- An update that is there, and whether the run that was to handle it has ended.
SELECT u.state, r.ended_at IS NOT NULL
FROM perdure.updates AS u CROSS JOIN LATERAL (SELECT ended_at FROM perdure.runs WHERE run = u.run OFFSET 0) AS r
WHERE u.run_id = %(run_id)s AND u.id = %(id)s;

-- name: request_update
INSERT INTO perdure.updates (run_id, id, run, call, state)
VALUES (%(run_id)s, %(id)s, %(run)s::bigint, %(call)s::bytea, 'requested')
ON CONFLICT (run_id, id) DO UPDATE
SET run = excluded.run, call = excluded.call, state = 'requested', answer = NULL;

-- name: set_update
UPDATE perdure.updates SET state = %(state)s, answer = %(answer)s::bytea
WHERE run_id = (SELECT id FROM perdure.runs WHERE run = %(run)s::bigint) AND id = %(id)s;

-- name: update_rows
-- The updates with these pairs of run id and update id.
SELECT u.run_id, u.id, u.state, u.answer, r.ended_at IS NOT NULL, u.call
FROM unnest(%(run_ids)b::text[], %(ids)b::text[]) AS k (run_id, id)
     CROSS JOIN LATERAL (SELECT * FROM perdure.updates WHERE run_id = k.run_id AND id = k.id OFFSET 0) AS u
     CROSS JOIN LATERAL (SELECT ended_at FROM perdure.runs WHERE run = u.run OFFSET 0) AS r;
