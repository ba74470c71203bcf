-- What follows from appends to histories, which are made by waves.sql. Many statements of the SQLite store take their
-- rows as one JSON text and give theirs as one: a statement then crosses between Python and SQLite once, whatever the
-- number of rows. That matters because each crossing waits for Python's global lock, which costs up to 5 ms when the
-- program's other threads are busy (measured: 130 times the throughput under load).

-- name: standing
-- What a refused append is told, and by which a repeated one recognises itself.
SELECT seq, epoch, attempt, owner FROM runs WHERE run = :run;

-- name: has_more
-- Whether a history has events where none should be: its run's row says that it ends before.
SELECT EXISTS (SELECT 1 FROM events WHERE run = :run AND seq > :seq);

-- name: insert_event
INSERT INTO events (run, seq, link, data) VALUES (?, ?, ?, ?);

-- name: replace_event
INSERT OR REPLACE INTO events (run, seq, link, data) VALUES (?, ?, ?, ?);

-- name: insert_events
-- Many events, cut out of one blob: [[run, seq, link, offset, length], ...].
INSERT INTO events (run, seq, link, data)
SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, substr(:data, e.value ->> 3, e.value ->> 4)
FROM json_each(:events) AS e;

-- name: set_chain
-- Of a run to which the store has appended by itself.
UPDATE runs SET chain = :chain WHERE run = :run;

-- name: take_mail
-- Inbox items that became events.
DELETE FROM inbox WHERE run = :run AND id IN (SELECT value FROM json_each(:ids));

-- name: less_mail
UPDATE runs SET mail = mail - :taken WHERE run = :run;

-- name: set_status
UPDATE runs SET status = :status, reason = :reason, block_code = :block_code WHERE run = :run;

-- name: release
-- Give a run up. Mail that came in meanwhile makes it due at once, unless it is held. One that its driver's
-- code couldn't drive is due at once if a worker with other code is there, and so is one that was resumed while
-- its driver made it rest, and one that is full and has mail that may be a cancellation.
UPDATE runs
SET owner = NULL, recoveries = 0,
    status = iif(status = 'paused' AND paused IS NULL, 'waiting', status),
    reason = iif(status = 'paused' AND paused IS NULL, NULL, reason),
    wake_at = CASE
        WHEN status = 'paused' AND paused IS NULL THEN :now
        WHEN mail > 0 AND status <> 'paused' AND (status <> 'blocked' OR block_code = 'step') THEN :now
        WHEN mail > 0 AND status = 'blocked' AND block_code = 'limit' AND EXISTS (
            SELECT 1 FROM inbox AS i WHERE i.run = runs.run AND i.kind = 'control'
        ) THEN :now
        WHEN status = 'blocked' AND block_code = 'code' AND misfits IS NOT NULL AND EXISTS (
            SELECT 1 FROM workers AS w
            WHERE instr(runs.misfits, json_quote(w.code)) = 0
              AND (runs.pinned = 0 OR runs.version = w.version)
              AND runs.queue IN (SELECT value FROM json_each(w.queues))
              AND runs.workflow IN (SELECT value FROM json_each(w.workflows))
        ) THEN :now
        ELSE :wake_at END
WHERE run = :run;

-- name: finish
-- A run's end: nobody drives it, nothing wakes it. Of its mail the messages stay, as undelivered.
UPDATE runs
SET status = :status, reason = :reason, block_code = :block_code, ended_at = :now,
    owner = NULL, wake_at = NULL,
    mail = iif(mail = 0, 0, (SELECT count(*) FROM inbox AS i WHERE i.run = runs.run AND i.kind <> 'control'))
WHERE run = :run;

-- name: terminate
-- A run's end from outside: one event more, and an epoch in which its driver can't write.
UPDATE runs
SET status = 'terminated', reason = NULL, block_code = NULL, ended_at = :now, updated_at = :now,
    owner = NULL, wake_at = NULL, seq = seq + 1, epoch = epoch + 1,
    mail = iif(mail = 0, 0, (SELECT count(*) FROM inbox AS i WHERE i.run = runs.run AND i.kind <> 'control'))
WHERE run = :run AND ended_at IS NULL
RETURNING seq, chain, parent, parent_op;

-- name: drop_inbox
DELETE FROM inbox WHERE run = :run AND kind = 'control';

-- name: parent_of
SELECT iif(parent_op IS NULL, NULL, parent) FROM runs WHERE run = :run;

-- name: live_children
SELECT c.run, c.on_parent_close, p.id
FROM runs AS c CROSS JOIN runs AS p ON p.run = c.parent
WHERE c.parent = :parent AND c.ended_at IS NULL
ORDER BY c.run;
