-- How runs come to workers.

-- name: due
-- The longest due runs a worker can drive: a few of each queue and workflow, and of those the first.
SELECT d.run
FROM workers AS me CROSS JOIN json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
     CROSS JOIN runs AS d ON d.run IN (
    SELECT run FROM runs
    WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL
      AND queue = q.value AND workflow = w.value AND wake_at <= :now
      AND (pinned = 0 OR version IS NULL OR version = me.version)
      AND (misfits IS NULL OR instr(misfits, json_quote(me.code)) = 0)
    ORDER BY wake_at, run LIMIT :limit
)
WHERE me.id = :worker
ORDER BY d.wake_at, d.run
LIMIT :limit;

-- name: claim
UPDATE runs
SET version = iif(pinned = 1 AND version IS NOT NULL, version, (SELECT version FROM workers WHERE id = :worker)),
    owner = :worker, epoch = epoch + 1, status = 'running', reason = NULL, block_code = NULL, wake_at = NULL,
    updated_at = :now, started_at = ifnull(started_at, :now)
WHERE run IN (SELECT value FROM json_each(:runs));

-- name: next_at
-- When the next unowned run is due that a worker can drive.
SELECT min((
    SELECT wake_at FROM runs
    WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND queue = q.value AND workflow = w.value
      AND (pinned = 0 OR version IS NULL OR version = me.version)
      AND (misfits IS NULL OR instr(misfits, json_quote(me.code)) = 0)
    ORDER BY wake_at LIMIT 1
))
FROM workers AS me CROSS JOIN json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
WHERE me.id = :worker;
