-- Callbacks: promises to runs, known by the hashes of their tokens.

-- name: open_callback
-- Nothing happens if it is there: a token means one callback for ever. A retry takes over what its donor left open.
INSERT INTO callbacks (token_hash, run, op, opened_at, expires_at, heartbeat, heard_at, state)
VALUES (:token_hash, :run, :op, :opened_at, :expires_at, :heartbeat, :opened_at, 'open')
ON CONFLICT (token_hash) DO UPDATE SET run = excluded.run
WHERE callbacks.state = 'open'
  AND EXISTS (SELECT 1 FROM runs AS r WHERE r.run = callbacks.run AND r.next = excluded.run);

-- name: callback
SELECT c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, r.id, r.status,
       r.ended_at IS NOT NULL
FROM callbacks AS c CROSS JOIN runs AS r ON r.run = c.run
WHERE c.token_hash = :token_hash;

-- name: hear_callback
UPDATE callbacks SET heard_at = max(heard_at, :now) WHERE token_hash = :token_hash;

-- name: close_callback
UPDATE callbacks SET state = :state, ended_at = :now WHERE token_hash = :token_hash;
