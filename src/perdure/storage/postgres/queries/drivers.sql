-- How runs come to workers.

-- name: idle_until
-- Whether a claim may find something, and if not, when the next run is due. Most looks are answered by this.
SELECT look.worthwhile, CASE WHEN look.worthwhile THEN NULL ELSE (
    SELECT min(r.wake_at)
    FROM perdure.workers AS me JOIN perdure.runs AS r
         ON (NOT r.pinned OR r.version IS NULL OR r.version = me.version)
        AND (r.misfits IS NULL OR me.code <> ALL (r.misfits))
    WHERE me.id = %(worker)s::bigint AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.lane IS NULL
      AND r.queue = ANY (%(queues)b::text[]) AND r.workflow = ANY (%(workflows)b::text[])
) END
FROM (
    SELECT EXISTS (SELECT 1 FROM perdure.queues WHERE name = ANY (%(queues)b::text[]))
        OR EXISTS (SELECT 1 FROM perdure.moves)
        OR EXISTS (
            SELECT 1
            FROM perdure.workers AS me JOIN perdure.runs AS r
                 ON (NOT r.pinned OR r.version IS NULL OR r.version = me.version)
                AND (r.misfits IS NULL OR me.code <> ALL (r.misfits))
            WHERE me.id = %(worker)s::bigint AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.lane IS NULL
              AND r.wake_at <= %(now)s::double precision
              AND r.queue = ANY (%(queues)b::text[]) AND r.workflow = ANY (%(workflows)b::text[])
        ) AS worthwhile
    OFFSET 0
) AS look;

-- name: due
-- The longest due runs a worker can drive, without waiting for those that others are claiming right now.
SELECT r.run
FROM perdure.workers AS me JOIN perdure.runs AS r
     ON (NOT r.pinned OR r.version IS NULL OR r.version = me.version)
    AND (r.misfits IS NULL OR me.code <> ALL (r.misfits))
WHERE me.id = %(worker)s::bigint AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.lane IS NULL
  AND r.wake_at <= %(now)s::double precision
  AND r.queue = ANY (%(queues)b::text[]) AND r.workflow = ANY (%(workflows)b::text[])
ORDER BY r.wake_at, r.run
LIMIT %(limit)s::bigint
FOR UPDATE OF r SKIP LOCKED;

-- name: claim
UPDATE perdure.runs
SET version = CASE WHEN pinned AND version IS NOT NULL THEN version
              ELSE (SELECT w.version FROM perdure.workers AS w WHERE w.id = %(worker)s::bigint) END,
    owner = %(worker)s::bigint, epoch = epoch + 1, status = 'running', reason = NULL, block_code = NULL,
    wake_at = NULL, updated_at = %(now)s::double precision,
    started_at = coalesce(started_at, %(now)s::double precision)
WHERE run = ANY (%(runs)b::bigint[]);

-- name: next_at
-- When the next unowned run is due that a worker can drive.
SELECT min(r.wake_at)
FROM perdure.workers AS me JOIN perdure.runs AS r
     ON (NOT r.pinned OR r.version IS NULL OR r.version = me.version)
    AND (r.misfits IS NULL OR me.code <> ALL (r.misfits))
WHERE me.id = %(worker)s::bigint AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.lane IS NULL
  AND r.queue = ANY (%(queues)b::text[]) AND r.workflow = ANY (%(workflows)b::text[]);

-- name: mail
-- Items of all runs a worker owns, oldest first within each run.
SELECT i.id, i.run, i.data, i.kind
FROM perdure.runs AS r JOIN perdure.inbox AS i ON i.run = r.run
WHERE r.owner = %(worker)s::bigint AND r.mail > 0
ORDER BY i.run, i.id;

-- name: owned
SELECT run, epoch FROM perdure.runs WHERE owner = %(worker)s::bigint;
