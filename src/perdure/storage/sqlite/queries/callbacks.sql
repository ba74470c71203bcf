-- Callbacks: promises to runs, known by the hashes of their tokens.

-- name: open_callback
-- Nothing happens if it is there: a token means one callback for ever.
INSERT INTO callbacks (token_hash, run, op, opened_at, expires_at, heartbeat, heard_at, state, question)
VALUES (:token_hash, :run, :op, :opened_at, :expires_at, :heartbeat, :opened_at, 'open', :question)
ON CONFLICT (token_hash) DO NOTHING
RETURNING run;

-- name: is_of_run
SELECT EXISTS (SELECT 1 FROM runs WHERE run = :run AND id = :id);

-- name: move_callback
-- A retry takes over what its donor left.
UPDATE callbacks SET run = :run WHERE token_hash = :token_hash;

-- name: reopen_callback
UPDATE callbacks
SET run = :run, op = :op, opened_at = :opened_at, expires_at = :expires_at, heartbeat = :heartbeat,
    heard_at = :opened_at, state = 'open', ended_at = NULL, question = :question, answer = NULL
WHERE token_hash = :token_hash;

-- name: withdraw_callback
UPDATE callbacks SET state = 'withdrawn', ended_at = :now
WHERE token_hash = :token_hash AND run = :run AND state = 'open';

-- name: callback
SELECT c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question, c.answer,
       r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM callbacks AS c CROSS JOIN runs AS r ON r.run = c.run
WHERE c.token_hash = :token_hash;

-- name: open_questions
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM callbacks AS c INDEXED BY questions_open CROSS JOIN runs AS r ON r.run = c.run
WHERE c.question IS NOT NULL AND c.state = 'open' AND r.ended_at IS NULL
  AND (c.expires_at IS NULL OR c.expires_at > :now)
  AND (:within IS NULL OR substr(r.id, 1, length(:within)) = :within)
  AND c.opened_at >= :since AND (c.opened_at, c.token_hash) > (:after_at, :after_hash)
ORDER BY c.opened_at, c.token_hash LIMIT :limit;

-- name: questions
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM callbacks AS c INDEXED BY questions_asked CROSS JOIN runs AS r ON r.run = c.run
WHERE c.question IS NOT NULL
  AND (:within IS NULL OR substr(r.id, 1, length(:within)) = :within)
  AND c.opened_at >= :since AND (c.opened_at, c.token_hash) > (:after_at, :after_hash)
ORDER BY c.opened_at, c.token_hash LIMIT :limit;

-- name: questions_of_run
SELECT c.token_hash, c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, c.question,
       c.answer, r.id, r.status, r.ended_at IS NOT NULL, r.generation, r.workflow
FROM (
    SELECT run FROM runs WHERE id = :id AND next IS NULL
    UNION ALL
    SELECT run FROM runs WHERE id = :id AND next IS NOT NULL
) AS k CROSS JOIN runs AS r ON r.run = k.run CROSS JOIN callbacks AS c ON c.run = r.run
WHERE c.question IS NOT NULL
  AND (NOT :open OR (c.state = 'open' AND r.ended_at IS NULL
                     AND (c.expires_at IS NULL OR c.expires_at > :now)))
  AND c.opened_at >= :since
  AND (c.opened_at, c.token_hash) > (:after_at, :after_hash)
ORDER BY c.opened_at, c.token_hash LIMIT :limit;

-- name: hear_callback
UPDATE callbacks SET heard_at = max(heard_at, :now) WHERE token_hash = :token_hash;

-- name: close_callback
UPDATE callbacks SET state = :state, ended_at = :now, answer = :answer WHERE token_hash = :token_hash;
