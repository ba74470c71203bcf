-- Callbacks: promises to runs, known by the hashes of their tokens.

-- name: open_callback
-- Nothing happens if it is there: a token means one callback for ever.
INSERT INTO perdure.callbacks (token_hash, run, op, opened_at, expires_at, heartbeat, heard_at, state, question)
VALUES (%(token_hash)s::bytea, %(run)s::bigint, %(op)s, %(opened_at)s::double precision,
        %(expires_at)s::double precision, %(heartbeat)s::double precision, %(opened_at)s::double precision, 'open',
        %(question)s::bytea)
ON CONFLICT (token_hash) DO NOTHING;

-- name: is_of_run
SELECT EXISTS (SELECT 1 FROM perdure.runs WHERE run = %(run)s::bigint AND (id = %(id)s) IS TRUE);

-- name: move_callback
-- A retry takes over what its donor left.
UPDATE perdure.callbacks SET run = %(run)s::bigint WHERE token_hash = %(token_hash)s::bytea;

-- name: reopen_callback
UPDATE perdure.callbacks
SET run = %(run)s::bigint, op = %(op)s, opened_at = %(opened_at)s::double precision,
    expires_at = %(expires_at)s::double precision, heartbeat = %(heartbeat)s::double precision,
    heard_at = %(opened_at)s::double precision, state = 'open', ended_at = NULL, question = %(question)s::bytea,
    answer = NULL
WHERE token_hash = %(token_hash)s::bytea;

-- name: withdraw_callback
UPDATE perdure.callbacks SET state = 'withdrawn', ended_at = %(now)s::double precision
WHERE token_hash = %(token_hash)s::bytea AND (run = %(run)s::bigint) IS TRUE AND state = 'open';

-- name: callback
-- Locked: of those who want to end it at the same time, the second is to see the first.
SELECT c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question, c.answer,
       r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM (SELECT * FROM perdure.callbacks WHERE token_hash = %(token_hash)s::bytea FOR UPDATE) AS c
     CROSS JOIN LATERAL (SELECT * FROM perdure.runs WHERE run = c.run OFFSET 0) AS r;

-- name: callback_as_it_stands
SELECT c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question, c.answer,
       r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM perdure.callbacks AS c CROSS JOIN LATERAL (SELECT * FROM perdure.runs WHERE run = c.run OFFSET 0) AS r
WHERE c.token_hash = %(token_hash)s::bytea;

-- name: open_questions
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM perdure.callbacks AS c CROSS JOIN LATERAL (SELECT * FROM perdure.runs WHERE run = c.run OFFSET 0) AS r
WHERE c.question IS NOT NULL AND c.state = 'open' AND r.ended_at IS NULL
  AND (c.expires_at IS NULL OR c.expires_at > %(now)s::double precision)
  AND (%(within)s::text IS NULL OR left(r.id, length(%(within)s::text)) = %(within)s::text)
  AND c.opened_at >= %(since)s::double precision
  AND (c.opened_at, c.token_hash) > (%(after_at)s::double precision, %(after_hash)s::bytea)
ORDER BY c.opened_at, c.token_hash LIMIT %(limit)s::bigint;

-- name: questions
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM perdure.callbacks AS c CROSS JOIN LATERAL (SELECT * FROM perdure.runs WHERE run = c.run OFFSET 0) AS r
WHERE c.question IS NOT NULL
  AND (%(within)s::text IS NULL OR left(r.id, length(%(within)s::text)) = %(within)s::text)
  AND c.opened_at >= %(since)s::double precision
  AND (c.opened_at, c.token_hash) > (%(after_at)s::double precision, %(after_hash)s::bytea)
ORDER BY c.opened_at, c.token_hash LIMIT %(limit)s::bigint;

-- name: questions_of_run
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM perdure.runs AS r CROSS JOIN LATERAL (SELECT * FROM perdure.callbacks WHERE run = r.run OFFSET 0) AS c
WHERE r.id = %(id)s AND c.question IS NOT NULL
  AND (NOT %(open)s::boolean OR (c.state = 'open' AND r.ended_at IS NULL
                     AND (c.expires_at IS NULL OR c.expires_at > %(now)s::double precision)))
  AND c.opened_at >= %(since)s::double precision
  AND (c.opened_at, c.token_hash) > (%(after_at)s::double precision, %(after_hash)s::bytea)
ORDER BY c.opened_at, c.token_hash LIMIT %(limit)s::bigint;

-- name: hear_callback
UPDATE perdure.callbacks SET heard_at = greatest(heard_at, %(now)s::double precision)
WHERE token_hash = %(token_hash)s::bytea;

-- name: close_callback
UPDATE perdure.callbacks SET state = %(state)s, ended_at = %(now)s::double precision, answer = %(answer)s::bytea
WHERE token_hash = %(token_hash)s::bytea;
