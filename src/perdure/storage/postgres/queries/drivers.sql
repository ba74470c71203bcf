-- How runs come to workers.

-- name: idle_until
-- Whether a claim may find something, and if not, when the next run is due. Most looks are answered by this.
SELECT look.first <= %(now)s::double precision OR look.special
       OR look.suspected <= %(suspected)s::double precision, look.first, look.suspected
FROM (
    SELECT (
        SELECT min(head.wake_at)
        FROM perdure.workers AS me
             CROSS JOIN unnest(%(queues)b::text[]) AS q (name) CROSS JOIN unnest(%(workflows)b::text[]) AS w (name)
             CROSS JOIN LATERAL (
            SELECT d.run, d.wake_at FROM perdure.runs AS d
            WHERE d.owner IS NULL AND d.wake_at IS NOT NULL AND d.lane IS NULL AND d.queue = q.name AND d.workflow = w.name
              AND (NOT d.pinned OR d.version IS NULL OR d.version = me.version)
              AND (d.misfits IS NULL OR me.code <> ALL (d.misfits)) AND d.recoveries < 2
            ORDER BY d.wake_at LIMIT 1
        ) AS head
        WHERE me.id = %(worker)s::bigint
    ) AS first, (
        EXISTS (SELECT 1 FROM perdure.queues WHERE name = ANY (%(queues)b::text[]))
        OR EXISTS (SELECT 1 FROM perdure.moves)
    ) AS special, (
        SELECT s.wake_at FROM perdure.runs AS s
        WHERE s.recoveries >= 2 AND (s.owner IS NULL) IS TRUE AND (s.lane IS NULL) IS TRUE  -- as `runs_shaken` has them
          AND s.wake_at <= %(now)s::double precision
        ORDER BY s.wake_at DESC LIMIT 1
    ) AS suspected
    OFFSET 0
) AS look;

-- name: due
-- The longest due runs a worker can drive: the first of each queue and workflow, and of those the first, however many
-- follow. Those that others are claiming right now are left to them; none is suspected. Each with how many were looked
-- at.
SELECT r.run, first.seen
FROM (
    SELECT head.run, head.wake_at, count(*) OVER () AS seen
    FROM perdure.workers AS me
         CROSS JOIN unnest(%(queues)b::text[]) AS q (name) CROSS JOIN unnest(%(workflows)b::text[]) AS w (name)
         CROSS JOIN LATERAL (
        SELECT d.run, d.wake_at FROM perdure.runs AS d
        WHERE d.owner IS NULL AND d.wake_at IS NOT NULL AND d.lane IS NULL AND d.queue = q.name AND d.workflow = w.name
          AND (NOT d.pinned OR d.version IS NULL OR d.version = me.version)
          AND (d.misfits IS NULL OR me.code <> ALL (d.misfits))
          AND d.wake_at <= %(now)s::double precision AND d.recoveries < 2
        ORDER BY d.wake_at, d.run LIMIT %(window)s::bigint
    ) AS head
    WHERE me.id = %(worker)s::bigint
    ORDER BY head.wake_at, head.run
    LIMIT %(window)s::bigint
) AS first CROSS JOIN LATERAL (
    SELECT d.run FROM perdure.runs AS d
    WHERE d.run = first.run AND d.owner IS NULL AND d.lane IS NULL
      AND coalesce(d.wake_at, 'infinity') <= %(now)s::double precision  -- no condition for an index
    FOR UPDATE SKIP LOCKED
) AS r
LIMIT %(limit)s::bigint;

-- name: suspected
-- Of the runs that have lost their drivers again and again, those a worker can try: who lost the most first, and of
-- those alike who was claimed last; of those claimed together it's another one's turn in each epoch.
SELECT d.run, d.recoveries, d.queue
FROM perdure.runs AS d JOIN perdure.workers AS me ON me.id = %(worker)s::bigint
WHERE d.recoveries >= 2 AND (d.owner IS NULL) IS TRUE AND (d.lane IS NULL) IS TRUE  -- as `runs_shaken` has them
  AND d.wake_at <= %(upto)s::double precision
  AND d.queue = ANY (%(queues)b::text[]) AND d.workflow = ANY (%(workflows)b::text[])
  AND (NOT d.pinned OR d.version IS NULL OR d.version = me.version)
  AND (d.misfits IS NULL OR me.code <> ALL (d.misfits))
ORDER BY d.recoveries DESC, d.updated_at DESC, mod(mod(d.run, 1000003) * 618034 + d.epoch * 414214, 1000003)
LIMIT %(limit)s::bigint
FOR UPDATE OF d SKIP LOCKED;

-- name: claim
-- With the rows as they are now, as `rows_by_key` has them.
UPDATE perdure.runs AS r
SET version = CASE WHEN r.pinned AND r.version IS NOT NULL THEN r.version
              ELSE (SELECT w.version FROM perdure.workers AS w WHERE w.id = %(worker)s::bigint) END,
    owner = %(worker)s::bigint, epoch = r.epoch + 1, status = 'running', reason = NULL, block_code = NULL,
    wake_at = NULL, updated_at = %(now)s::double precision,
    started_at = coalesce(r.started_at, %(now)s::double precision)
WHERE r.run = ANY (%(runs)b::bigint[])
RETURNING r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
          r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
          r.block_code, r.parent, (SELECT p.id FROM perdure.runs AS p WHERE p.run = r.parent), r.parent_op,
          r.on_parent_close, r.generation, r.next, r.version, r.pinned, r.chain, r.key, r.priority;

-- name: next_at
-- When the next unowned run is due that a worker can drive.
SELECT min(head.wake_at)
FROM perdure.workers AS me
     CROSS JOIN unnest(%(queues)b::text[]) AS q (name) CROSS JOIN unnest(%(workflows)b::text[]) AS w (name)
     CROSS JOIN LATERAL (
    SELECT d.run, d.wake_at FROM perdure.runs AS d
    WHERE d.owner IS NULL AND d.wake_at IS NOT NULL AND d.lane IS NULL AND d.queue = q.name AND d.workflow = w.name
      AND (NOT d.pinned OR d.version IS NULL OR d.version = me.version)
      AND (d.misfits IS NULL OR me.code <> ALL (d.misfits)) AND d.recoveries < 2
    ORDER BY d.wake_at LIMIT 1
) AS head
WHERE me.id = %(worker)s::bigint;

-- name: mail
-- Items of all runs a worker owns, oldest first within each run.
SELECT i.id, i.run, i.data, i.kind
FROM perdure.runs AS r CROSS JOIN LATERAL (
    SELECT id, run, data, kind FROM perdure.inbox WHERE run = r.run OFFSET 0  -- or all mail of all might be read first
) AS i
WHERE r.owner = %(worker)s::bigint AND r.mail > 0
ORDER BY i.run, i.id;

-- name: owned
SELECT run, epoch FROM perdure.runs WHERE owner = %(worker)s::bigint;
