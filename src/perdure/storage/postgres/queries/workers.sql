-- Workers: signing up, staying alive, being buried.

-- name: register
INSERT INTO perdure.workers (id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
                             heard_at, schema)
VALUES (
    %(id)s::bigint, %(name)s, %(host)s, %(pid)s::bigint, %(born)s::bigint, %(started_at)s::double precision,
    %(lease_until)s::double precision, %(queues)s::text[], %(workflows)s::text[],
    %(version)s, %(code)s, %(heard_at)s::double precision, %(schema)s::bigint
);

-- name: unblock
-- Runs that waited for code which is here now. Code that couldn't drive a run before still can't.
UPDATE perdure.runs AS r
SET wake_at = %(now)s::double precision
FROM perdure.workers AS me
WHERE me.id = %(worker)s::bigint AND r.block_code = 'code' AND r.status = 'blocked' AND r.owner IS NULL
  AND r.queue = ANY (%(queues)b::text[]) AND r.workflow = ANY (%(workflows)b::text[])
  AND (NOT r.pinned OR r.version IS NULL OR r.version = me.version)
  AND (r.misfits IS NULL OR me.code <> ALL (r.misfits));

-- name: heartbeat
UPDATE perdure.workers
SET lease_until = %(lease_until)s::double precision, heard_at = %(heard_at)s::double precision,
    runs = %(runs)s::bigint, steps = %(steps)s::bigint, stopping = %(stopping)s::boolean
WHERE id = %(worker)s::bigint;

-- name: announce
UPDATE perdure.workers SET workflows = %(workflows)s::text[] WHERE id = %(worker)s::bigint RETURNING queues;

-- name: lock_worker
-- So that it isn't buried before its claim is committed. Nobody claims where the runs are moved away.
-- And which of its queues aren't like others, when the last suspected run became due, and whether some are being tried
-- just now.
SELECT ARRAY(SELECT q.name FROM perdure.queues AS q WHERE q.name = ANY (%(queues)b::text[])),
       (SELECT s.wake_at FROM perdure.runs AS s
        WHERE s.recoveries >= 2 AND (s.owner IS NULL) IS TRUE AND (s.lane IS NULL) IS TRUE  -- as `runs_shaken` has them
          AND s.wake_at <= %(now)s::double precision
        ORDER BY s.wake_at DESC LIMIT 1),
       EXISTS (SELECT 1 FROM perdure.runs AS t
               WHERE t.owner IS NOT NULL AND t.recoveries >= 3
                 AND t.updated_at > %(now)s::double precision - power(2.0, least(t.recoveries, 16) - 4))
FROM perdure.workers AS w WHERE w.id = %(worker)s::bigint AND NOT EXISTS (SELECT 1 FROM perdure.moves)
FOR KEY SHARE OF w;

-- name: lock_workers
SELECT id FROM perdure.workers WHERE id = ANY (%(workers)b::bigint[]) FOR KEY SHARE;

-- name: workers
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM perdure.workers ORDER BY id;

-- name: suspects
-- Who may have died: the others aren't looked at, however many they are.
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM perdure.workers WHERE host = %(host)s::text
UNION ALL
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows, version, code,
       heard_at, runs, steps, stopping
FROM perdure.workers WHERE lease_until < %(lapsed_before)s::double precision AND host <> %(host)s::text;

-- name: crowd
SELECT count(*) FROM perdure.workers;

-- name: bury
-- Nothing happens if the worker has shown a sign of life since.
DELETE FROM perdure.workers WHERE id = %(worker)s::bigint AND lease_until = %(seen_lease)s::double precision;

-- name: retire
DELETE FROM perdure.workers WHERE id = %(worker)s::bigint;

-- name: poisoned
-- The only run of a dead worker, if it has taken its drivers down too often. Of several nobody knows which it was.
SELECT run, recoveries + 1 FROM perdure.runs
WHERE owner = %(worker)s::bigint AND recoveries + 1 > %(max_recoveries)s::bigint
  AND 1 = (SELECT count(*) FROM (SELECT 1 FROM perdure.runs WHERE owner = %(worker)s::bigint LIMIT 2) AS owned);

-- name: block_poisoned
UPDATE perdure.runs
SET owner = NULL, wake_at = NULL, epoch = epoch + 1, recoveries = %(recoveries)s::bigint,
    updated_at = %(now)s::double precision, status = 'blocked', reason = %(reason)s, block_code = 'poison'
WHERE run = %(run)s::bigint;

-- name: release_all
-- A worker's runs become due for others, in an epoch in which it can't write.
UPDATE perdure.runs
SET owner = NULL, wake_at = %(now)s::double precision, epoch = epoch + 1, recoveries = recoveries + %(count)s::bigint
WHERE owner = %(worker)s::bigint;

-- name: stranded
-- Due runs that no worker can drive: of each queue and workflow that nobody serves, a bounded number.
WITH RECURSIVE kind (queue, workflow) AS (
    (SELECT queue, workflow FROM perdure.runs WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL
     ORDER BY queue, workflow LIMIT 1)
    UNION ALL
    SELECT n.queue, n.workflow
    FROM kind CROSS JOIN LATERAL (
        SELECT queue, workflow FROM perdure.runs
        WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND (queue, workflow) > (kind.queue, kind.workflow)
        ORDER BY queue, workflow LIMIT 1
    ) AS n
)
SELECT r.run, r.workflow, r.queue
FROM kind CROSS JOIN LATERAL (  -- else all that is due might be read first, and compared with each of these
    SELECT run, workflow, queue FROM perdure.runs
    WHERE queue = kind.queue AND workflow = kind.workflow
      AND owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL AND wake_at <= %(now)s::double precision
      AND status <> 'blocked'
    ORDER BY wake_at, run LIMIT %(limit)s::bigint
) AS r
WHERE NOT EXISTS (
    SELECT 1 FROM perdure.workers AS w WHERE kind.queue = ANY (w.queues) AND kind.workflow = ANY (w.workflows)
)
LIMIT %(limit)s::bigint;

-- name: stranded_in_line
-- The same for those that stand in line.
WITH RECURSIVE kind (queue, workflow) AS (
    (SELECT queue, workflow FROM perdure.runs WHERE lane IS NOT NULL AND wake_at IS NOT NULL
     ORDER BY queue, workflow LIMIT 1)
    UNION ALL
    SELECT n.queue, n.workflow
    FROM kind CROSS JOIN LATERAL (
        SELECT queue, workflow FROM perdure.runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND (queue, workflow) > (kind.queue, kind.workflow)
        ORDER BY queue, workflow LIMIT 1
    ) AS n
), unserved (queue, workflow) AS (
    SELECT queue, workflow FROM kind
    WHERE NOT EXISTS (
        SELECT 1 FROM perdure.workers AS w WHERE kind.queue = ANY (w.queues) AND kind.workflow = ANY (w.workflows)
    )
)
SELECT r.run, r.workflow, r.queue
FROM unserved AS u CROSS JOIN LATERAL (
    SELECT run, workflow, queue FROM perdure.runs
    WHERE queue = u.queue AND workflow = u.workflow AND lane IS NOT NULL AND wake_at IS NOT NULL
      AND rank > -2000000000 AND status <> 'blocked'
    ORDER BY rank DESC, lane, wake_at, run LIMIT %(limit)s::bigint
) AS r
UNION ALL
SELECT r.run, r.workflow, r.queue
FROM unserved AS u CROSS JOIN LATERAL (
    SELECT run, workflow, queue FROM perdure.runs
    WHERE queue = u.queue AND workflow = u.workflow AND lane IS NOT NULL AND wake_at IS NOT NULL
      AND rank = -2000000000 AND lane = '' AND wake_at <= %(now)s::double precision AND status <> 'blocked'
    ORDER BY wake_at, run LIMIT %(limit)s::bigint
) AS r
LIMIT %(limit)s::bigint;

-- name: block_stranded
-- Again with the conditions: somebody may have claimed it meanwhile.
UPDATE perdure.runs
SET wake_at = NULL, updated_at = %(now)s::double precision, status = 'blocked', reason = %(reason)s, block_code = 'code'
WHERE run = %(run)s::bigint AND owner IS NULL AND wake_at IS NOT NULL AND status <> 'blocked';

-- name: lock_fleet
-- Who learns of a worker's code and who blocks runs for want of it take turns.
SELECT value FROM perdure.meta WHERE name = 'fleet' FOR UPDATE;
