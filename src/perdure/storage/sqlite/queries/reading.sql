-- Looking at runs, histories and inboxes.

-- name: rows_by_id
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close, r.generation,
       r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM json_each(:ids) AS i CROSS JOIN runs AS r ON r.id = i.value AND r.next IS NULL
     LEFT JOIN runs AS p ON p.run = r.parent;

-- name: rows_by_key
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close, r.generation,
       r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value LEFT JOIN runs AS p ON p.run = r.parent
ORDER BY i.key;

-- name: find
-- Newest first, of each run its newest generation. A workflow is given by its name or by the part of it after the last dot.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close, r.generation,
       r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM runs AS r LEFT JOIN runs AS p ON p.run = r.parent
WHERE r.next IS NULL
  AND (:before IS NULL OR r.run < :before)
  AND (:statuses IS NULL OR r.status IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow IS NULL OR r.workflow = :workflow
       OR (instr(:workflow, '.') = 0 AND substr(r.workflow, -length(:workflow) - 1) = '.' || :workflow))
  AND (:text IS NULL OR instr(r.id, :text) > 0 OR instr(r.reason, :text) > 0)
  AND (:since IS NULL OR r.created_at >= :since)
  AND (:errands OR substr(r.workflow, 1, 5) <> 'step/')
ORDER BY r.run DESC
LIMIT :limit;

-- name: find_children
-- The same among the children of one run, by their index.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close, r.generation,
       r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM runs AS r LEFT JOIN runs AS p ON p.run = r.parent
WHERE r.parent = :parent AND r.next IS NULL
  AND (:before IS NULL OR r.run < :before)
  AND (:statuses IS NULL OR r.status IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow IS NULL OR r.workflow = :workflow
       OR (instr(:workflow, '.') = 0 AND substr(r.workflow, -length(:workflow) - 1) = '.' || :workflow))
  AND (:text IS NULL OR instr(r.id, :text) > 0 OR instr(r.reason, :text) > 0)
  AND (:since IS NULL OR r.created_at >= :since)
  AND (:errands OR substr(r.workflow, 1, 5) <> 'step/')
ORDER BY r.run DESC
LIMIT :limit;

-- name: events
-- A page of a history as one JSON list of hex texts; seqs are without gaps, so they needn't be told.
SELECT json_group_array(hex(data)), max(seq)
FROM (SELECT seq, data FROM events WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit);

-- name: events_by_row
-- The same a row at a time, for a page too large for one text.
SELECT seq, data FROM events WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit;

-- name: proofs
-- What is said of these runs' histories, and the link of the event after which a replay may go on when it has read the
-- first one.
SELECT r.run, r.id, r.generation, r.seq, r.chain, r.checkpoint, c.link
FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value
     LEFT JOIN events AS c ON c.run = r.run AND c.seq = r.checkpoint;

-- name: linked_events
-- A page of a history, to see what is wrong with it.
SELECT seq, link, data FROM events WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit;

-- name: last_events
-- With what is needed to see whether they are what was recorded.
SELECT r.id, r.generation, r.seq, r.chain, e.link, e.data, b.link
FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value
     LEFT JOIN events AS e ON e.run = r.run AND e.seq = r.seq
     LEFT JOIN events AS b ON b.run = r.run AND b.seq = r.seq - 1
ORDER BY i.key;

-- name: inbox
-- Items of one run, oldest first.
SELECT id, run, data, kind FROM inbox WHERE run = :run ORDER BY id;

-- name: mail
-- Items of all runs a worker owns, oldest first.
SELECT i.id, i.run, i.data, i.kind
FROM runs AS r CROSS JOIN inbox AS i ON i.run = r.run
WHERE r.owner = :worker AND r.mail > 0
ORDER BY i.id;

-- name: owned
SELECT run, epoch FROM runs WHERE owner = :worker;
