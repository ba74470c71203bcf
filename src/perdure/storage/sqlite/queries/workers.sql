-- Workers: signing up, staying alive, being buried.

-- name: register
INSERT INTO workers (name, host, pid, born, started_at, lease_until, queues, workflows, version, code, heard_at,
                     schema)
VALUES (:name, :host, :pid, :born, :started_at, :lease_until, :queues, :workflows, :version, :code, :heard_at, :schema)
RETURNING id;

-- name: unblock
-- Runs that waited for code which is here now. Code that couldn't drive a run before still can't.
UPDATE runs
SET wake_at = :now
WHERE run IN (
    SELECT r.run
    FROM workers AS me CROSS JOIN json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
         CROSS JOIN runs AS r ON r.queue = q.value AND r.workflow = w.value
    WHERE me.id = :worker AND r.block_code = 'code' AND r.status = 'blocked' AND r.owner IS NULL
      AND (r.pinned = 0 OR r.version IS NULL OR r.version = me.version)
      AND (r.misfits IS NULL OR instr(r.misfits, json_quote(me.code)) = 0)
);

-- name: heartbeat
UPDATE workers
SET lease_until = :lease_until, heard_at = :heard_at, runs = :runs, steps = :steps, stopping = :stopping
WHERE id = :worker;

-- name: announce
UPDATE workers SET workflows = :workflows WHERE id = :worker RETURNING queues;

-- name: may_claim
-- Only registered workers, and nobody where the runs are moved away. And which of its queues aren't like others, when
-- the last suspected run became due, and whether some are being tried just now.
SELECT EXISTS (SELECT 1 FROM workers WHERE id = :worker) AND NOT EXISTS (SELECT 1 FROM moves),
       (SELECT json_group_array(json_array(name, limited, paused, draining, json(settings), arrival, turn))
        FROM queues WHERE name IN (SELECT value FROM json_each(:queues))),
       (SELECT max(wake_at) FROM runs INDEXED BY runs_suspected
        WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND recoveries >= 2 AND wake_at <= :now),
       EXISTS (SELECT 1 FROM runs INDEXED BY runs_tried
               WHERE owner IS NOT NULL AND recoveries >= 3 AND updated_at > :now - (1 << min(recoveries, 16)) / 16.0);

-- name: workers
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM workers ORDER BY id;

-- name: suspects
-- Who may have died: the others aren't looked at, however many they are.
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM workers WHERE host = :host
UNION ALL
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM workers WHERE lease_until < :lapsed_before AND host <> :host;

-- name: crowd
SELECT count(*) FROM workers;

-- name: bury
-- Nothing happens if the worker has shown a sign of life since.
DELETE FROM workers WHERE id = :worker AND lease_until = :seen_lease;

-- name: retire
DELETE FROM workers WHERE id = :worker;

-- name: poisoned
-- The only run of a dead worker, if it has taken its drivers down too often. Of several nobody knows which it was.
SELECT run, recoveries + 1 FROM runs
WHERE owner = :worker AND recoveries + 1 > :max_recoveries
  AND 1 = (SELECT count(*) FROM (SELECT 1 FROM runs WHERE owner = :worker LIMIT 2));

-- name: block_poisoned
UPDATE runs
SET owner = NULL, wake_at = NULL, epoch = epoch + 1, recoveries = :recoveries, updated_at = :now,
    status = 'blocked', reason = :reason, block_code = 'poison'
WHERE run = :run;

-- name: release_all
-- A worker's runs become due for others, in an epoch in which it can't write.
UPDATE runs
SET owner = NULL, wake_at = :now, epoch = epoch + 1, recoveries = recoveries + :count
WHERE owner = :worker;

-- name: stranded
-- Due runs that no worker can drive: walks from one (queue, workflow) to the next in the index, asks for
-- each who serves it, and takes a bounded number of runs of those nobody does.
WITH RECURSIVE kind (queue, workflow) AS (
    SELECT queue, workflow FROM (
        SELECT queue, workflow FROM runs WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL
        ORDER BY queue, workflow LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.workflow
    FROM kind CROSS JOIN runs AS n ON n.run = (
        SELECT run FROM runs
        WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND (queue, workflow) > (kind.queue, kind.workflow)
        ORDER BY queue, workflow LIMIT 1
    )
)
SELECT r.run, r.workflow, r.queue
FROM kind CROSS JOIN runs AS r ON r.queue = kind.queue AND r.workflow = kind.workflow
WHERE NOT EXISTS (
    SELECT 1 FROM workers AS w
    WHERE kind.queue IN (SELECT value FROM json_each(w.queues))
      AND kind.workflow IN (SELECT value FROM json_each(w.workflows))
)
  AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.lane IS NULL AND r.wake_at <= :now AND r.status <> 'blocked'
LIMIT :limit;

-- name: stranded_in_line
-- The same for those that stand in line.
WITH RECURSIVE kind (queue, workflow) AS (
    SELECT queue, workflow FROM (
        SELECT queue, workflow FROM runs WHERE lane IS NOT NULL AND wake_at IS NOT NULL
        ORDER BY queue, workflow LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.workflow
    FROM kind CROSS JOIN runs AS n ON n.run = (
        SELECT run FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND (queue, workflow) > (kind.queue, kind.workflow)
        ORDER BY queue, workflow LIMIT 1
    )
), unserved (queue, workflow) AS (
    SELECT queue, workflow FROM kind
    WHERE NOT EXISTS (
        SELECT 1 FROM workers AS w
        WHERE kind.queue IN (SELECT value FROM json_each(w.queues))
          AND kind.workflow IN (SELECT value FROM json_each(w.workflows))
    )
)
SELECT r.run, r.workflow, r.queue
FROM unserved AS u CROSS JOIN runs AS r ON r.queue = u.queue AND r.workflow = u.workflow
WHERE r.lane IS NOT NULL AND r.wake_at IS NOT NULL AND r.rank > -2000000000 AND r.status <> 'blocked'
UNION ALL
SELECT r.run, r.workflow, r.queue
FROM unserved AS u CROSS JOIN runs AS r ON r.queue = u.queue AND r.workflow = u.workflow
WHERE r.lane IS NOT NULL AND r.wake_at IS NOT NULL AND r.rank = -2000000000 AND r.lane = '' AND r.wake_at <= :now
  AND r.status <> 'blocked'
LIMIT :limit;

-- name: block_unreadable
-- A run that was just claimed, and whose row can't be read.
UPDATE runs
SET owner = NULL, wake_at = NULL, status = 'blocked', reason = :reason, block_code = 'history'
WHERE run = :run;

-- name: block_stranded
UPDATE runs
SET wake_at = NULL, updated_at = :now, status = 'blocked', reason = :reason, block_code = 'code'
WHERE run = :run;
