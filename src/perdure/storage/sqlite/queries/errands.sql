-- Errands: runs that carry out a step of another run.

-- name: end_errand
-- The end of one that no worker has begun, in an epoch in which nobody can write.
UPDATE runs
SET status = 'cancelled', reason = NULL, block_code = NULL, ended_at = :now, updated_at = :now, owner = NULL,
    wake_at = NULL, seq = seq + 1, epoch = epoch + 1, mail = 0
WHERE run = :run AND started_at IS NULL AND owner IS NULL AND ended_at IS NULL
RETURNING seq, chain, parent, parent_op;

-- name: detach_errand
-- Nobody waits for it any more.
UPDATE runs SET parent_op = NULL WHERE run = :run AND ended_at IS NULL;

-- name: is_live
SELECT EXISTS (SELECT 1 FROM runs WHERE run = :run AND ended_at IS NULL);

-- name: missed_workflows
-- Of the runs that were never driven for want of a worker: queues and workflows, if the name begins in this way.
SELECT DISTINCT r.queue, r.workflow
FROM json_each(:queues) AS q CROSS JOIN runs AS r ON r.queue = q.value AND r.block_code = 'code'
WHERE r.workflow >= :first AND r.workflow < :after AND r.started_at IS NULL AND r.ended_at IS NULL
LIMIT :limit;

-- name: place_of
-- What a run's queue may go by; so may those of its errands.
SELECT key, priority FROM runs WHERE run = :run;
