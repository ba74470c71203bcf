-- Versions of code: runs that only some workers may drive.

-- name: note_misfit
-- Remember a code that can't drive the run; of many the last twenty.
UPDATE perdure.runs
SET misfits = (array_remove(coalesce(misfits, '{}'), %(code)s::text) || %(code)s::text)
              [greatest(1, cardinality(array_remove(coalesce(misfits, '{}'), %(code)s::text)) - 18):]
WHERE run = %(run)s::bigint;

-- name: stranded_pinned
-- Due runs that are pinned to a version which no registered worker with their workflow and queue has.
SELECT r.run, r.version
FROM perdure.runs AS r
WHERE r.owner IS NULL AND r.wake_at IS NOT NULL AND r.pinned AND r.wake_at <= %(now)s::double precision
  AND r.version IS NOT NULL AND r.status <> 'blocked'
  AND NOT EXISTS (
      SELECT 1 FROM perdure.workers AS w
      WHERE w.version = r.version AND r.queue = ANY (w.queues) AND r.workflow = ANY (w.workflows)
  )
LIMIT %(limit)s::bigint;
