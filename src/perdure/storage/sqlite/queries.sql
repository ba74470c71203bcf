-- Every statement the SQLite store runs, migrations and pragmas aside. Many take their rows as one JSON
-- text and give theirs as one: a statement then crosses between Python and SQLite once, whatever the
-- number of rows. That matters because each crossing waits for Python's global lock, which costs up to
-- 5 ms when the program's other threads are busy (measured: 130 times the throughput under load).

-- ================================================================================== appends

-- name: advance
-- The compare-and-set that locks a run's row, fences stale drivers off and moves the run on. A repeat
-- of the append that is there already doesn't pass either; it recognises itself by `standing`.
UPDATE runs
SET seq = :seq, attempt = :attempt, updated_at = :now, recoveries = iif(:seq > :expected, 0, recoveries)
WHERE run = :run AND seq = :expected AND epoch = :epoch AND owner IS NOT NULL AND attempt IS NOT :attempt;

-- name: advance_many
-- The same for many different runs: [[run, expected, epoch, attempt, seq, now], ...].
UPDATE runs
SET seq = a.seq, attempt = a.attempt, updated_at = a.now, recoveries = iif(a.seq > a.expected, 0, recoveries)
FROM (
    SELECT value ->> 0 AS run, value ->> 1 AS expected, value ->> 2 AS epoch,
           value ->> 3 AS attempt, value ->> 4 AS seq, value ->> 5 AS now
    FROM json_each(:appends)
) AS a
WHERE runs.run = a.run AND runs.seq = a.expected AND runs.epoch = a.epoch AND runs.owner IS NOT NULL
  AND runs.attempt IS NOT a.attempt;

-- name: standing
-- What a refused append is told, and by which a repeated one recognises itself.
SELECT seq, epoch, attempt, owner FROM runs WHERE run = :run;

-- name: insert_event
INSERT INTO events (run, seq, data) VALUES (:run, :seq, :data);

-- name: insert_events
-- Many events, cut out of one blob: [[run, seq, offset, length], ...].
INSERT INTO events (run, seq, data)
SELECT e.value ->> 0, e.value ->> 1, substr(:data, e.value ->> 2, e.value ->> 3)
FROM json_each(:events) AS e;

-- name: take_mail
-- Inbox items that became events.
DELETE FROM inbox WHERE run = :run AND id IN (SELECT value FROM json_each(:ids));

-- name: less_mail
UPDATE runs SET mail = mail - :taken WHERE run = :run;

-- name: set_status
UPDATE runs SET status = :status, reason = :reason, block_code = :block_code WHERE run = :run;

-- name: release
-- Give a run up. Mail that came in meanwhile makes it due at once, unless it is held.
UPDATE runs
SET owner = NULL, wake_at = iif(mail > 0 AND status NOT IN ('blocked', 'paused'), :now, :wake_at)
WHERE run = :run;

-- name: finish
-- A run's end: nobody drives it, nothing wakes it, nothing waits for it.
UPDATE runs
SET status = :status, reason = :reason, block_code = :block_code, ended_at = :now,
    owner = NULL, wake_at = NULL, mail = 0
WHERE run = :run;

-- name: finish_many
-- The same for many runs: [[run, status, reason, block_code, now], ...].
UPDATE runs
SET status = a.status, reason = a.reason, block_code = a.block_code, ended_at = a.now,
    owner = NULL, wake_at = NULL, mail = 0
FROM (
    SELECT value ->> 0 AS run, value ->> 1 AS status, value ->> 2 AS reason, value ->> 3 AS block_code,
           value ->> 4 AS now
    FROM json_each(:ends)
) AS a
WHERE runs.run = a.run;

-- name: terminate
-- A run's end from outside: one event more, and an epoch in which its driver can't write.
UPDATE runs
SET status = 'terminated', reason = NULL, block_code = NULL, ended_at = :now, updated_at = :now,
    owner = NULL, wake_at = NULL, mail = 0, seq = seq + 1, epoch = epoch + 1
WHERE run = :run AND ended_at IS NULL
RETURNING seq, parent, parent_op;

-- name: drop_inbox
DELETE FROM inbox WHERE run = :run;

-- name: drop_inboxes
DELETE FROM inbox WHERE run IN (SELECT value FROM json_each(:runs));

-- name: live_parents
-- Which of these runs have children that haven't ended.
SELECT DISTINCT c.parent FROM json_each(:runs) AS p CROSS JOIN runs AS c ON c.parent = p.value
WHERE c.ended_at IS NULL;

-- name: parent_of
SELECT parent FROM runs WHERE run = :run;

-- name: live_children
SELECT c.run, c.on_parent_close, p.id
FROM runs AS c CROSS JOIN runs AS p ON p.run = c.parent
WHERE c.parent = :parent AND c.ended_at IS NULL
ORDER BY c.run;

-- name: would_terminate
-- Whether the end of any of these runs terminates a child.
SELECT EXISTS (
    SELECT 1 FROM json_each(:runs) AS p CROSS JOIN runs AS c ON c.parent = p.value
    WHERE c.on_parent_close = 'terminate' AND c.ended_at IS NULL
);

-- ================================================================================== clients

-- name: create
-- Nothing happens if the id exists. A worker that isn't registered (any more) can't own a run.
INSERT INTO runs (
    id, workflow, status, queue, fingerprint, seq, epoch, owner, created_at, updated_at, started_at,
    wake_at, semantics, parent, parent_op, on_parent_close
)
SELECT :id, :workflow, iif(w.id IS NULL, 'queued', 'running'), :queue, :fingerprint, 1,
       iif(w.id IS NULL, 0, 1), w.id, :created_at, :created_at, iif(w.id IS NULL, NULL, :created_at),
       iif(w.id IS NULL, :wake_at, NULL), :semantics, :parent, :parent_op, :on_parent_close
FROM (SELECT 1) LEFT JOIN workers AS w ON w.id = :owner
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING run, epoch;

-- name: create_many
-- The same for many runs: [[id, workflow, queue, fingerprint in hex, created_at, wake_at, owner, parent,
-- parent_op, on_parent_close], ...]. Tells which ids are new.
INSERT INTO runs (
    id, workflow, status, queue, fingerprint, seq, epoch, owner, created_at, updated_at, started_at,
    wake_at, semantics, parent, parent_op, on_parent_close
)
SELECT fresh.value ->> 0, fresh.value ->> 1, iif(w.id IS NULL, 'queued', 'running'), fresh.value ->> 2,
       unhex(fresh.value ->> 3), 1, iif(w.id IS NULL, 0, 1), w.id, fresh.value ->> 4, fresh.value ->> 4,
       iif(w.id IS NULL, NULL, fresh.value ->> 4), iif(w.id IS NULL, fresh.value ->> 5, NULL), :semantics,
       fresh.value ->> 7, fresh.value ->> 8, fresh.value ->> 9
FROM json_each(:runs) AS fresh LEFT JOIN workers AS w ON w.id = fresh.value ->> 6
WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id, run;

-- name: key_of
SELECT run, epoch, owner, parent FROM runs WHERE id = :id;

-- name: put_mail
INSERT INTO inbox (run, data) VALUES (:run, :data);

-- name: more_mail
-- Count a new inbox item, and make the run due unless somebody drives it (who will look) or it is held.
UPDATE runs
SET mail = mail + 1,
    wake_at = iif(owner IS NOT NULL OR status IN ('blocked', 'paused'), wake_at, min(ifnull(wake_at, :now), :now))
WHERE run = :run AND ended_at IS NULL;

-- ================================================================================== reading

-- name: rows_by_id
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close
FROM json_each(:ids) AS i CROSS JOIN runs AS r ON r.id = i.value LEFT JOIN runs AS p ON p.run = r.parent;

-- name: rows_by_key
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close
FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value LEFT JOIN runs AS p ON p.run = r.parent
ORDER BY i.key;

-- name: find
-- Newest first. A workflow is given by its name or by the part of it after the last dot.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close
FROM runs AS r LEFT JOIN runs AS p ON p.run = r.parent
WHERE (:before IS NULL OR r.run < :before)
  AND (:statuses IS NULL OR r.status IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow IS NULL OR r.workflow = :workflow
       OR (instr(:workflow, '.') = 0 AND substr(r.workflow, -length(:workflow) - 1) = '.' || :workflow))
  AND (:text IS NULL OR instr(r.id, :text) > 0)
  AND (:since IS NULL OR r.created_at >= :since)
ORDER BY r.run DESC
LIMIT :limit;

-- name: find_children
-- The same among the children of one run, by their index.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close
FROM runs AS r LEFT JOIN runs AS p ON p.run = r.parent
WHERE r.parent = :parent
  AND (:before IS NULL OR r.run < :before)
  AND (:statuses IS NULL OR r.status IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow IS NULL OR r.workflow = :workflow
       OR (instr(:workflow, '.') = 0 AND substr(r.workflow, -length(:workflow) - 1) = '.' || :workflow))
  AND (:text IS NULL OR instr(r.id, :text) > 0)
  AND (:since IS NULL OR r.created_at >= :since)
ORDER BY r.run DESC
LIMIT :limit;

-- name: events
-- A page of a history as one JSON list of hex texts; seqs are without gaps, so they needn't be told.
SELECT json_group_array(hex(data))
FROM (SELECT data FROM events WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit);

-- name: events_by_row
-- The same a row at a time, for a page too large for one text.
SELECT data FROM events WHERE run = :run AND seq > :after ORDER BY seq LIMIT :limit;

-- name: last_events
SELECT e.data
FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value
     CROSS JOIN events AS e ON e.run = r.run AND e.seq = r.seq
ORDER BY i.key;

-- name: inbox
-- Items of one run, oldest first.
SELECT id, run, data FROM inbox WHERE run = :run ORDER BY id;

-- name: mail
-- Items of all runs a worker owns, oldest first.
SELECT i.id, i.run, i.data
FROM runs AS r CROSS JOIN inbox AS i ON i.run = r.run
WHERE r.owner = :worker AND r.mail > 0
ORDER BY i.id;

-- name: owned
SELECT run, epoch FROM runs WHERE owner = :worker;

-- ================================================================================== drivers

-- name: due
-- The longest due runs a worker can drive: a few of each queue and workflow, and of those the first.
SELECT d.run
FROM json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w CROSS JOIN runs AS d ON d.run IN (
    SELECT run FROM runs
    WHERE owner IS NULL AND wake_at IS NOT NULL
      AND queue = q.value AND workflow = w.value AND wake_at <= :now
    ORDER BY wake_at, run LIMIT :limit
)
ORDER BY d.wake_at, d.run
LIMIT :limit;

-- name: claim
UPDATE runs
SET owner = :worker, epoch = epoch + 1, status = 'running', reason = NULL, block_code = NULL, wake_at = NULL,
    updated_at = :now, started_at = ifnull(started_at, :now)
WHERE run IN (SELECT value FROM json_each(:runs));

-- name: next_at
-- When the next unowned run is due that a worker can drive.
SELECT min((
    SELECT wake_at FROM runs
    WHERE owner IS NULL AND wake_at IS NOT NULL AND queue = q.value AND workflow = w.value
    ORDER BY wake_at LIMIT 1
))
FROM json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w;

-- ================================================================================== workers

-- name: register
INSERT INTO workers (name, host, pid, born, started_at, lease_until, queues, workflows)
VALUES (:name, :host, :pid, :born, :started_at, :lease_until, :queues, :workflows)
RETURNING id;

-- name: unblock
-- Runs that waited for code which is here now.
UPDATE runs
SET wake_at = :now
WHERE run IN (
    SELECT r.run
    FROM json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w
         CROSS JOIN runs AS r ON r.queue = q.value AND r.workflow = w.value
    WHERE r.block_code = 'code' AND r.status = 'blocked' AND r.owner IS NULL
);

-- name: heartbeat
UPDATE workers SET lease_until = :lease_until WHERE id = :worker;

-- name: announce
UPDATE workers SET workflows = :workflows WHERE id = :worker RETURNING queues;

-- name: is_registered
SELECT EXISTS (SELECT 1 FROM workers WHERE id = :worker);

-- name: workers
SELECT id, name, host, pid, born, started_at, lease_until, queues, workflows FROM workers ORDER BY id;

-- name: bury
-- Nothing happens if the worker has shown a sign of life since.
DELETE FROM workers WHERE id = :worker AND lease_until = :seen_lease;

-- name: retire
DELETE FROM workers WHERE id = :worker;

-- name: poisoned
-- Runs of a dead worker that have taken their driver down too often.
SELECT run, recoveries + 1 FROM runs WHERE owner = :worker AND recoveries + 1 > :max_recoveries;

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
        SELECT queue, workflow FROM runs WHERE owner IS NULL AND wake_at IS NOT NULL
        ORDER BY queue, workflow LIMIT 1
    )
    UNION ALL
    SELECT n.queue, n.workflow
    FROM kind CROSS JOIN runs AS n ON n.run = (
        SELECT run FROM runs
        WHERE owner IS NULL AND wake_at IS NOT NULL AND (queue, workflow) > (kind.queue, kind.workflow)
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
  AND r.owner IS NULL AND r.wake_at IS NOT NULL AND r.wake_at <= :now AND r.status <> 'blocked'
LIMIT :limit;

-- name: block_stranded
UPDATE runs
SET wake_at = NULL, updated_at = :now, status = 'blocked', reason = :reason, block_code = 'code'
WHERE run = :run;

-- ================================================================================== the writer itself

-- name: is_empty
-- Whether the file is new: nothing has been created in it.
SELECT count(*) = 0 FROM sqlite_schema;

-- name: mark_commit
-- Written with each transaction that can't recognise itself otherwise.
INSERT INTO commits (writer, number, at) VALUES (:writer, :number, unixepoch())
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at;

-- name: marked_commit
SELECT number FROM commits WHERE writer = :writer;

-- name: forget_commits
-- Of writers that are gone: an outcome is asked for within seconds.
DELETE FROM commits WHERE at < unixepoch() - 86400;

-- name: data_version
-- Changes whenever another connection has committed something.
PRAGMA data_version;
