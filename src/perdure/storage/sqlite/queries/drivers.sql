-- How runs come to workers.

-- name: due
-- The longest due runs a worker can drive: a few of each queue and workflow, and of those the first. Not the suspected.
SELECT d.run
FROM workers AS me CROSS JOIN json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
     CROSS JOIN runs AS d ON d.run IN (
    SELECT run FROM runs
    WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL
      AND queue = q.value AND workflow = w.value AND wake_at <= :now AND recoveries < 2
      AND (pinned = 0 OR version IS NULL OR version = me.version)
      AND (misfits IS NULL OR instr(misfits, json_quote(me.code)) = 0)
    ORDER BY wake_at, run LIMIT :limit
)
WHERE me.id = :worker
ORDER BY d.wake_at, d.run
LIMIT :limit;

-- name: suspected
-- Of the runs that have lost their drivers again and again, those a worker can try: who lost the most first, and of
-- those alike who was claimed last; of those claimed together it's another one's turn in each epoch.
SELECT d.run, d.recoveries, d.queue
FROM workers AS me CROSS JOIN runs AS d INDEXED BY runs_suspected
WHERE me.id = :worker AND d.owner IS NULL AND d.wake_at IS NOT NULL AND d.lane IS NULL AND d.recoveries >= 2
  AND d.wake_at <= :upto
  AND d.queue IN (SELECT value FROM json_each(:queues)) AND d.workflow IN (SELECT value FROM json_each(:workflows))
  AND (d.pinned = 0 OR d.version IS NULL OR d.version = me.version)
  AND (d.misfits IS NULL OR instr(d.misfits, json_quote(me.code)) = 0)
ORDER BY d.recoveries DESC, d.updated_at DESC, (d.run % 1000003 * 618034 + d.epoch * 414214) % 1000003
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
      AND (misfits IS NULL OR instr(misfits, json_quote(me.code)) = 0) AND recoveries < 2
    ORDER BY wake_at LIMIT 1
))
FROM workers AS me CROSS JOIN json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
WHERE me.id = :worker;
