-- Versions of code: runs that only some workers may drive.

-- name: note_misfit
-- Remember a code that can't drive the run; of many the last twenty.
UPDATE runs
SET misfits = (
    SELECT json_group_array(value) FROM (
        SELECT value FROM (
            SELECT key, value FROM json_each(ifnull(runs.misfits, '[]')) WHERE value <> :code
            UNION ALL
            SELECT 1000, :code
            ORDER BY key DESC LIMIT 20
        ) ORDER BY key
    )
)
WHERE run = :run;

-- name: stranded_pinned
-- Due runs that are pinned to a version which no registered worker with their workflow and queue has.
SELECT r.run, r.version
FROM runs AS r
WHERE r.owner IS NULL AND r.wake_at IS NOT NULL AND r.pinned = 1 AND r.wake_at <= :now
  AND r.version IS NOT NULL AND r.status <> 'blocked'
  AND NOT EXISTS (
      SELECT 1 FROM workers AS w
      WHERE w.version = r.version
        AND r.queue IN (SELECT value FROM json_each(w.queues))
        AND r.workflow IN (SELECT value FROM json_each(w.workflows))
  )
LIMIT :limit;
