-- Errands: runs that carry out a step of another run.

-- name: end_errand
-- The end of one that no worker has begun, in an epoch in which nobody can write.
UPDATE perdure.runs
SET status = 'cancelled', reason = NULL, block_code = NULL, ended_at = %(now)s::double precision,
    updated_at = %(now)s::double precision, owner = NULL, wake_at = NULL, seq = seq + 1, epoch = epoch + 1, mail = 0
WHERE run = %(run)s::bigint AND started_at IS NULL AND owner IS NULL AND ended_at IS NULL
RETURNING seq, parent, parent_op;

-- name: detach_errand
-- Nobody waits for it any more.
UPDATE perdure.runs SET parent_op = NULL WHERE run = %(run)s::bigint AND ended_at IS NULL;

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
