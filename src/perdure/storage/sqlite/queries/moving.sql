-- Moving runs to other databases, and from them.

-- name: mark
SELECT token, url, done FROM moves;

-- name: begin_move
INSERT INTO moves (one, token, url, done) VALUES (1, :token, :url, 0) ON CONFLICT DO NOTHING;

-- name: outdate_schedules
-- Whoever is about to fire one changes nothing.
UPDATE schedules SET version = version + 1;

-- name: give_up_move
DELETE FROM moves WHERE token = :token AND done = 0;

-- name: finish_move
UPDATE moves SET done = 1 WHERE token = :token;

-- name: stamps
-- All that can change of a run while nobody drives it.
SELECT r.id, p.id, r.seq, r.owner, r.ended_at, r.generation, r.epoch, r.mail, r.status, r.updated_at, r.paused,
       r.wake_at, (SELECT max(c.heard_at) FROM callbacks AS c WHERE c.run = r.run)
FROM runs AS r LEFT JOIN runs AS p ON p.run = r.parent
ORDER BY r.run;

-- name: live_runs
SELECT run FROM runs WHERE ended_at IS NULL ORDER BY run;

-- name: numbered
-- Every generation of these ids.
SELECT r.id, r.generation, r.run, r.owner FROM json_each(:ids) AS i CROSS JOIN runs AS r ON r.id = i.value AND r.next IS NULL
UNION ALL
SELECT r.id, r.generation, r.run, r.owner FROM json_each(:ids) AS i CROSS JOIN runs AS r ON r.id = i.value AND r.next IS NOT NULL;

-- name: held_for
-- Which of these runs came with a move and are as they came, but for mail.
SELECT a.run
FROM json_each(:runs) AS k CROSS JOIN arrivals AS a ON a.run = k.value CROSS JOIN runs AS r ON r.run = a.run
WHERE a.token = :token AND r.next IS NULL AND (r.owner = 0 OR a.mail = -1);

-- name: pack_runs
SELECT r.run, r.id, r.generation, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.chain, r.created_at, r.updated_at,
       r.started_at, r.ended_at, CASE WHEN r.owner = 0 THEN a.wake_at WHEN r.owner IS NULL THEN r.wake_at ELSE r.updated_at END, r.recoveries, r.semantics, r.reason,
       r.block_code, p.id, p.generation, r.parent_op, r.on_parent_close, r.version, r.pinned, r.paused, r.misfits,
       r.checkpoint, r.key, r.priority, r.dedup
FROM json_each(:runs) AS k CROSS JOIN runs AS r ON r.run = k.value
     LEFT JOIN runs AS p ON p.run = r.parent LEFT JOIN arrivals AS a ON a.run = r.run;

-- name: pack_events
SELECT e.run, e.seq, e.link, e.data FROM json_each(:runs) AS k CROSS JOIN events AS e ON e.run = k.value ORDER BY e.run, e.seq;

-- name: pack_inbox
SELECT i.run, i.kind, i.data FROM json_each(:runs) AS k CROSS JOIN inbox AS i ON i.run = k.value ORDER BY i.run, i.id;

-- name: pack_mail_keys
SELECT i.run, i.key FROM json_each(:runs) AS k CROSS JOIN mail_keys AS i ON i.run = k.value;

-- name: pack_step_details
SELECT d.run, d.step, d.data, d.at FROM json_each(:runs) AS k CROSS JOIN step_details AS d ON d.run = k.value;

-- name: pack_callbacks
SELECT c.run, c.token_hash, c.op, c.opened_at, c.expires_at, c.heartbeat, c.heard_at, c.state, c.ended_at,
       c.question, c.answer
FROM json_each(:runs) AS k CROSS JOIN callbacks AS c ON c.run = k.value;

-- name: pack_attributes
SELECT v.run, v.name, v.place, v.family, v.value
FROM json_each(:runs) AS k CROSS JOIN attributes AS v ON v.run = k.value;

-- name: pack_patches
SELECT c.run, c.change FROM json_each(:runs) AS k CROSS JOIN patches AS c ON c.run = k.value;

-- name: pack_donors
SELECT d.run, d.donor FROM json_each(:runs) AS k CROSS JOIN donors AS d ON d.run = k.value;

-- name: pack_publication_waits
SELECT w.run, w.op, w.name, w.condition, w.since, w.after
FROM json_each(:runs) AS k CROSS JOIN publication_waits AS w ON w.run = k.value;

-- name: pack_usage
-- Nobody executes anything while runs are moved: what is open is unknown.
SELECT u.run, u.id, CASE u.state WHEN 'open' THEN 'unknown' ELSE u.state END, u.step, u.name, u.attempt, u.at, u.epoch, u.errand, u.workflow, u.key, u.model, u.provider, u.response, u.input, u.output, u.cached, u.written, u.reasoning, u.cost, u.price, u.spared, u.counted
FROM json_each(:runs) AS k CROSS JOIN usage AS u ON u.run = k.value;

-- name: pack_updates
SELECT u.run, u.id, u.call, u.state, u.answer FROM json_each(:ids) AS k CROSS JOIN updates AS u ON u.run_id = k.value;

-- name: pack_streams
SELECT s.stream, s.id, s.name FROM json_each(:ids) AS k CROSS JOIN streams AS s ON s.id = k.value;

-- name: pack_items
SELECT i.stream, i.offset, i.at, i.run, i.step, i.attempt, i.data, i.since
FROM json_each(:ids) AS k CROSS JOIN streams AS s ON s.id = k.value
     CROSS JOIN stream_items AS i ON i.stream = s.stream;

-- name: pack_stream_writers
SELECT w.run, w.step, w.stream, w.attempt, w.first, w.last, w.superseded, w.open
FROM json_each(:runs) AS k CROSS JOIN stream_writers AS w ON w.run = k.value;

-- name: newest_keys
-- The highest that were ever given.
SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'runs'), 0),
       ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'streams'), 0);

-- name: put_runs
INSERT INTO runs (
    run, id, generation, seq, epoch, owner, mail, parent, next, workflow, status, queue, fingerprint, chain, created_at,
    updated_at, started_at, ended_at, wake_at, recoveries, semantics, reason, block_code, parent_op,
    on_parent_close, version, pinned, paused, misfits, checkpoint, key, priority, dedup
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_events
INSERT INTO events (run, seq, link, data) VALUES (?, ?, ?, ?);

-- name: put_inbox
INSERT INTO inbox (run, kind, data) VALUES (?, ?, ?);

-- name: put_mail_keys
INSERT INTO mail_keys (run, key) VALUES (?, ?);

-- name: put_step_details
INSERT INTO step_details (run, step, data, at) VALUES (?, ?, ?, ?);

-- name: put_callbacks
-- A token that is known here belongs to the run that had it first.
INSERT INTO callbacks (run, token_hash, op, opened_at, expires_at, heartbeat, heard_at, state, ended_at, question, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: put_attributes
INSERT INTO attributes (run, name, place, family, value) VALUES (?, ?, ?, ?, ?);

-- name: put_patches
INSERT INTO patches (run, change) VALUES (?, ?);

-- name: put_donors
INSERT INTO donors (run, donor) VALUES (?, ?);

-- name: put_publication_waits
-- They look back in the database to which they have come.
INSERT INTO publication_waits (run, op, name, condition, fields, match, since, after, fresh)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1);

-- name: put_publication_shapes
INSERT INTO publication_shapes (name, fields) VALUES (?, ?) ON CONFLICT DO NOTHING;

-- name: put_usage
INSERT INTO usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price, spared, counted
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_updates
INSERT INTO updates (run, run_id, id, call, state, answer) VALUES (?, ?, ?, ?, ?, ?);

-- name: put_streams
INSERT INTO streams (stream, id, name, size) VALUES (?, ?, ?, ?);

-- name: put_stream_items
INSERT INTO stream_items (stream, offset, at, run, step, attempt, data, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_stream_writers
INSERT INTO stream_writers (run, step, stream, attempt, first, last, superseded, open)
VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: put_arrivals
INSERT INTO arrivals (run, wake_at, mail, token) VALUES (?, ?, ?, ?);

-- name: let_go
-- Held runs are as they were; mail that came meanwhile wakes them as usual.
UPDATE runs
SET owner = NULL,
    wake_at = CASE
        WHEN runs.mail > a.mail AND status <> 'paused' AND (status <> 'blocked' OR block_code = 'step')
             AND NOT (status = 'queued' AND a.wake_at IS NOT NULL) THEN :now
        ELSE a.wake_at END
FROM (SELECT run, wake_at, mail FROM arrivals WHERE token = :token ORDER BY run LIMIT :limit) AS a
WHERE runs.run = a.run AND runs.owner = 0;

-- name: next_arrivals
SELECT run FROM arrivals WHERE token = :token ORDER BY run LIMIT :limit;

-- name: forget_arrivals
DELETE FROM arrivals
WHERE run IN (SELECT run FROM arrivals WHERE token = :token ORDER BY run LIMIT :limit);

-- name: arrivals
SELECT DISTINCT r.id FROM arrivals AS a CROSS JOIN runs AS r ON r.run = a.run WHERE a.token = :token;

-- name: erase_events
DELETE FROM events WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_inbox
DELETE FROM inbox WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_mail_keys
DELETE FROM mail_keys WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_publication_waits
DELETE FROM publication_waits WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_step_details
DELETE FROM step_details WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_usage
DELETE FROM usage WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_callbacks
DELETE FROM callbacks WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_attributes
DELETE FROM attributes WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_patches
DELETE FROM patches WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_donors
DELETE FROM donors WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_stream_writers
DELETE FROM stream_writers WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_arrivals
DELETE FROM arrivals WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_runs
DELETE FROM runs WHERE run IN (SELECT value FROM json_each(:runs));

-- name: erase_updates
DELETE FROM updates WHERE run_id IN (SELECT value FROM json_each(:ids));

-- name: erase_items
DELETE FROM stream_items
WHERE stream IN (SELECT s.stream FROM json_each(:ids) AS k CROSS JOIN streams AS s ON s.id = k.value);

-- name: erase_streams
DELETE FROM streams WHERE id IN (SELECT value FROM json_each(:ids));
