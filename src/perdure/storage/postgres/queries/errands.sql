-- Errands: runs that carry out a step of another run.

-- name: lock_errands
-- Those that are live, and whether no worker has begun them.
SELECT id, run, started_at IS NULL AND owner IS NULL FROM perdure.runs
WHERE run = ANY (ARRAY(SELECT i.run FROM perdure.ids AS i WHERE i.id = ANY (%(ids)b::text[]))) AND ended_at IS NULL
ORDER BY run
FOR UPDATE;

-- name: end_errands
-- The end of some that no worker has begun, in an epoch in which nobody can write.
UPDATE perdure.runs
SET status = 'cancelled', reason = NULL, block_code = NULL, ended_at = %(now)s::double precision,
    updated_at = %(now)s::double precision, owner = NULL, wake_at = NULL, seq = seq + 1, epoch = epoch + 1, mail = 0
WHERE run = ANY (%(runs)b::bigint[]) AND started_at IS NULL AND owner IS NULL AND ended_at IS NULL
RETURNING run, seq, chain, parent, parent_op;

-- name: ask_errands
-- Count a new inbox item of some that have begun, as `more_mail` does; nobody waits for these any more.
UPDATE perdure.runs
SET mail = mail + 1, mail_number = mail_number + 1, parent_op = NULL,
    wake_at = CASE
        WHEN owner IS NOT NULL OR status = 'paused' OR (status = 'blocked' AND block_code <> 'step') THEN wake_at
        ELSE least(coalesce(wake_at, %(now)s::double precision), %(now)s::double precision) END
WHERE run = ANY (%(runs)b::bigint[]) AND ended_at IS NULL
RETURNING run, mail_number;

-- name: put_mails
INSERT INTO perdure.inbox (run, id, kind, data)
SELECT m.run, m.number, %(kind)s, m.data
FROM unnest(%(runs)b::bigint[], %(numbers)b::bigint[], %(data)b::bytea[]) AS m (run, number, data);

-- name: is_live
-- Whether a run hasn't ended; it stays so until the transaction's end.
SELECT run FROM perdure.runs WHERE run = %(run)s::bigint AND ended_at IS NULL FOR SHARE;

-- name: missed_workflows
-- Of the runs that were never driven for want of a worker: queues and workflows, if the name begins in this way.
SELECT DISTINCT queue, workflow
FROM perdure.runs
WHERE queue = ANY (%(queues)b::text[]) AND block_code = 'code' AND started_at IS NULL AND ended_at IS NULL
  AND strpos(workflow, %(prefix)s::text) = 1
LIMIT %(limit)s::bigint;

-- name: place_of
-- What a run's queue may go by; so may those of its errands.
SELECT key, priority FROM perdure.runs WHERE run = %(run)s::bigint;
