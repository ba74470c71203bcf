-- Runs that have never been driven and are blocked for want of a worker.

-- name: mail_of_unbegun
SELECT i.id, i.run, i.data, i.kind
FROM runs AS r CROSS JOIN inbox AS i ON i.run = r.run
WHERE r.block_code = 'code' AND r.started_at IS NULL AND r.mail > 0
  AND r.wake_at IS NULL AND r.ended_at IS NULL AND i.kind = 'control'
ORDER BY i.id
LIMIT :limit;

-- name: end_unbegun
UPDATE runs
SET status = :status, reason = :reason, block_code = NULL, ended_at = :now, updated_at = :now,
    seq = seq + 1, epoch = epoch + 1,
    mail = (SELECT count(*) FROM inbox AS i WHERE i.run = runs.run AND i.kind <> 'control')
WHERE run = :run AND block_code = 'code' AND started_at IS NULL AND wake_at IS NULL AND ended_at IS NULL
RETURNING seq, chain, parent, parent_op;
