-- Runs that have never been driven and are blocked for want of a worker.

-- name: mail_of_unbegun
SELECT i.id, i.run, i.data, i.kind
FROM perdure.runs AS r CROSS JOIN LATERAL (SELECT * FROM perdure.inbox WHERE run = r.run OFFSET 0) AS i
WHERE r.block_code = 'code' AND r.started_at IS NULL AND r.mail > 0
  AND r.wake_at IS NULL AND r.ended_at IS NULL AND i.kind = 'control'
ORDER BY i.run, i.id
LIMIT %(limit)s::bigint;

-- name: end_unbegun
UPDATE perdure.runs AS r
SET status = %(status)s, reason = %(reason)s::text, block_code = NULL, ended_at = %(now)s::double precision,
    updated_at = %(now)s::double precision, seq = seq + 1, epoch = epoch + 1,
    mail = (SELECT count(*) FROM perdure.inbox AS i WHERE i.run = r.run AND i.kind <> 'control')
WHERE run = %(run)s::bigint AND (block_code = 'code') IS NOT DISTINCT FROM true  -- so that no other index fits
  AND started_at IS NULL AND wake_at IS NULL AND ended_at IS NULL
RETURNING seq, chain, parent, parent_op;
