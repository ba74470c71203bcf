-- Looking at runs, histories and inboxes.

-- name: rows_by_id
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, (SELECT p.id FROM perdure.runs AS p WHERE p.run = r.parent), r.parent_op,
       r.on_parent_close, r.generation, r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM perdure.runs AS r
WHERE r.run = ANY (ARRAY(SELECT i.run FROM perdure.ids AS i WHERE i.id = ANY (%(ids)b::text[])));

-- name: rows_by_key
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, (SELECT p.id FROM perdure.runs AS p WHERE p.run = r.parent), r.parent_op,
       r.on_parent_close, r.generation, r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM perdure.runs AS r
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: find
-- Newest first, of each run its newest generation. A workflow is given by its name or by the part of it after the last dot.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, (SELECT p.id FROM perdure.runs AS p WHERE p.run = r.parent), r.parent_op,
       r.on_parent_close, r.generation, r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM perdure.runs AS r
WHERE r.next IS NULL
  AND (%(before)s::bigint IS NULL OR r.run < %(before)s::bigint)
  AND (%(statuses)s::text[] IS NULL OR r.status = ANY (%(statuses)s::text[]))
  AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
       OR (strpos(%(workflow)s::text, '.') = 0
           AND right(r.workflow, length(%(workflow)s::text) + 1) = '.' || %(workflow)s::text))
  AND (%(text)s::text IS NULL OR strpos(r.id, %(text)s::text) > 0 OR strpos(r.reason, %(text)s::text) > 0)
  AND (%(since)s::double precision IS NULL OR r.created_at >= %(since)s::double precision)
  AND (%(errands)s::boolean OR left(r.workflow, 5) <> 'step/')
ORDER BY r.run DESC
LIMIT %(limit)s::bigint;

-- name: events
SELECT seq, data FROM perdure.events
WHERE run = %(run)s::bigint AND seq > %(after)s::bigint ORDER BY seq LIMIT %(limit)s::bigint;

-- name: histories
-- What a replay reads of histories: what is said of each run, its events, its inbox. One statement, so one snapshot.
-- Of a run with a checkpoint those are the first event and what comes after it; nothing in between is read.
SELECT r.run, 0, r.seq, r.chain, NULL::bytea, r.id, r.generation, r.checkpoint,
       (SELECT c.link FROM perdure.events AS c WHERE c.run = r.run AND c.seq = r.checkpoint)
FROM perdure.runs AS r WHERE r.run = ANY (%(runs)b::bigint[])
UNION ALL
SELECT e.run, 1, e.seq, e.link, e.data, NULL, NULL, NULL, NULL
FROM perdure.runs AS r CROSS JOIN LATERAL (
    SELECT run, seq, link, data FROM perdure.events WHERE run = r.run AND seq > coalesce(r.checkpoint, 0)
    UNION ALL
    SELECT run, seq, link, data FROM perdure.events WHERE run = r.run AND seq = 1 AND r.checkpoint >= 1
    OFFSET 0
) AS e
WHERE r.run = ANY (%(runs)b::bigint[])
UNION ALL
SELECT run, 2, id, NULL, data, kind, NULL, NULL, NULL FROM perdure.inbox WHERE run = ANY (%(runs)b::bigint[])
ORDER BY 1, 2, 3;

-- name: linked_events
-- A page of a history, to see what is wrong with it.
SELECT seq, link, data FROM perdure.events
WHERE run = %(run)s::bigint AND seq > %(after)s::bigint ORDER BY seq LIMIT %(limit)s::bigint;

-- name: last_events
-- With what is needed to see whether they are what was recorded.
SELECT r.run, r.id, r.generation, r.seq, r.chain, e.link, e.data,
       (SELECT b.link FROM perdure.events AS b WHERE b.run = r.run AND b.seq = r.seq - 1)
FROM perdure.runs AS r LEFT JOIN LATERAL (
    SELECT link, data FROM perdure.events WHERE run = r.run AND seq = r.seq OFFSET 0
) AS e ON true
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: inbox
-- Items of one run, oldest first.
SELECT id, run, data, kind FROM perdure.inbox WHERE run = %(run)s::bigint ORDER BY id;
