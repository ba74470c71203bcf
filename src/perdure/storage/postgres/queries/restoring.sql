-- What makes a database that was set back to an earlier moment fit to go on from.

-- name: fence_restored_runs
UPDATE perdure.runs
SET epoch = greatest(epoch, %(beyond)s::bigint) + 1, owner = NULL,
    wake_at = CASE WHEN owner IS NULL THEN wake_at ELSE %(now)s::double precision END
WHERE ended_at IS NULL;

-- name: forget_workers
DELETE FROM perdure.workers;
