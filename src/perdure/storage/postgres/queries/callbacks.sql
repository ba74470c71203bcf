-- Callbacks: promises to runs, known by the hashes of their tokens.

-- name: open_callback
-- Nothing happens if it is there: a token means one callback for ever. A retry takes over what its donor left open.
INSERT INTO perdure.callbacks AS c (token_hash, run, op, opened_at, expires_at, heartbeat, heard_at, state)
VALUES (%(token_hash)s::bytea, %(run)s::bigint, %(op)s, %(opened_at)s::double precision,
        %(expires_at)s::double precision, %(heartbeat)s::double precision, %(opened_at)s::double precision, 'open')
ON CONFLICT (token_hash) DO UPDATE SET run = excluded.run
WHERE c.state = 'open'
  AND EXISTS (SELECT 1 FROM perdure.runs AS r WHERE r.run = c.run AND r.next = excluded.run);

-- name: callback
-- Locked: of those who want to end it at the same time, the second is to see the first.
SELECT c.run, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at, r.id, r.status,
       r.ended_at IS NOT NULL
FROM perdure.callbacks AS c JOIN perdure.runs AS r ON r.run = c.run
WHERE c.token_hash = %(token_hash)s::bytea
FOR UPDATE OF c;

-- name: hear_callback
UPDATE perdure.callbacks SET heard_at = greatest(heard_at, %(now)s::double precision)
WHERE token_hash = %(token_hash)s::bytea;

-- name: close_callback
UPDATE perdure.callbacks SET state = %(state)s, ended_at = %(now)s::double precision
WHERE token_hash = %(token_hash)s::bytea;
