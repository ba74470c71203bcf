-- Removing runs that have ended.

-- name: take_turn
INSERT INTO sweeper (one, holder, until, at, rules)
VALUES (1, :holder, :until, :now, :rules)
ON CONFLICT (one) DO UPDATE
SET holder = excluded.holder, until = excluded.until, at = excluded.at,
    rules = CASE WHEN length(excluded.rules) > 0 THEN excluded.rules ELSE sweeper.rules END
WHERE sweeper.holder = excluded.holder OR sweeper.until <= excluded.at
RETURNING plan;

-- name: sweeping
SELECT holder, until, at, rules FROM sweeper;

-- name: note_plan
UPDATE sweeper SET plan = :plan WHERE holder = :holder;

-- name: leave_turn
UPDATE sweeper SET until = 0 WHERE holder = :holder;

-- name: ended_runs
SELECT r.run, r.id, r.workflow, r.status, r.ended_at, r.seq,
       CASE WHEN p.run IS NULL THEN NULL WHEN p.ended_at IS NOT NULL THEN 'ended' WHEN p.mail > 0 THEN 'mail' ELSE 'live' END,
       r.next IS NULL
FROM (
    SELECT run FROM runs
    WHERE ended_at IS NOT NULL AND ended_at < :before AND ended_at >= :after AND (ended_at, run) > (:after, :run)
    ORDER BY ended_at, run LIMIT :limit
) AS k CROSS JOIN runs AS r ON r.run = k.run LEFT JOIN runs AS p ON p.run = r.parent
ORDER BY r.ended_at, r.run;

-- name: orphans
SELECT r.run, r.id, r.workflow, r.status, r.ended_at, r.seq, m.archive
FROM remainders AS m CROSS JOIN runs AS r ON r.parent = m.run
WHERE r.ended_at IS NOT NULL AND r.next IS NULL LIMIT :limit;

-- name: family
-- A run in all its generations, with everything that these have started. At most so many.
WITH RECURSIVE family (run) AS (
    SELECT run FROM runs WHERE run = :run
    UNION
    SELECT g.run FROM runs AS r CROSS JOIN runs AS g ON g.id = r.id AND g.next IS NOT NULL WHERE r.run = :run
    UNION
    SELECT c.run FROM family AS f CROSS JOIN runs AS c ON c.parent = f.run
    LIMIT :limit
)
SELECT max(r.ended_at IS NULL AND r.run <> :run),
       max(EXISTS (SELECT 1 FROM budget_holds AS h WHERE h.run = r.run))
FROM family AS f CROSS JOIN runs AS r ON r.run = f.run;

-- name: forked
-- Whether a live run takes over from this one.
SELECT EXISTS (
    SELECT 1 FROM runs AS o CROSS JOIN donors AS d ON d.donor = o.id CROSS JOIN runs AS r ON r.run = d.run
    WHERE o.run = :run AND r.ended_at IS NULL
);

-- name: removable
SELECT id FROM runs
WHERE run = :run AND seq = :seq AND ended_at IS NOT NULL AND next IS NULL
  AND NOT EXISTS (SELECT 1 FROM arrivals AS a WHERE a.run = runs.run);

-- name: earlier_generations
SELECT run FROM runs WHERE id = :id AND next IS NOT NULL ORDER BY generation LIMIT :limit;

-- name: drop_updates
DELETE FROM updates
WHERE run_id = :id AND id IN (SELECT id FROM updates WHERE run_id = :id LIMIT :limit);

-- name: remain
INSERT INTO remainders (run, archive, since) VALUES (?, ?, ?);

-- name: remain_streams
INSERT INTO remaining_streams (stream) SELECT stream FROM streams WHERE id = :id;

-- name: drop_streams
DELETE FROM streams WHERE id = :id;

-- name: drop_accounts_of
DELETE FROM budget_accounts WHERE owner = :id AND name IN (SELECT value FROM json_each(:names));

-- name: remainders
SELECT run FROM remainders WHERE bare = 0 ORDER BY run LIMIT :limit;

-- name: remaining_streams
SELECT stream FROM remaining_streams ORDER BY stream LIMIT :limit;

-- name: heavy_events
SELECT e.run, e.seq, length(e.data)
FROM json_each(:runs) AS k CROSS JOIN events AS e ON e.run = k.value LIMIT :limit;

-- name: heavy_inbox
SELECT i.run, i.id, length(i.data)
FROM json_each(:runs) AS k CROSS JOIN inbox AS i ON i.run = k.value LIMIT :limit;

-- name: heavy_items
SELECT i.stream, i.offset, ifnull(length(i.data), 0)
FROM json_each(:runs) AS k CROSS JOIN stream_items AS i ON i.stream = k.value LIMIT :limit;

-- name: drop_events
DELETE FROM events WHERE run = ? AND seq = ?;

-- name: drop_inbox_item
DELETE FROM inbox WHERE run = ? AND id = ?;

-- name: drop_item
DELETE FROM stream_items WHERE stream = ? AND offset = ?;

-- name: sweep_mail_keys
DELETE FROM mail_keys WHERE (run, key) IN (
    SELECT x.run, x.key FROM json_each(:runs) AS k CROSS JOIN mail_keys AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_step_details
DELETE FROM step_details WHERE (run, step) IN (
    SELECT x.run, x.step FROM json_each(:runs) AS k CROSS JOIN step_details AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_callbacks
DELETE FROM callbacks WHERE token_hash IN (
    SELECT x.token_hash FROM json_each(:runs) AS k CROSS JOIN callbacks AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_attributes
DELETE FROM attributes WHERE (run, name, place) IN (
    SELECT x.run, x.name, x.place FROM json_each(:runs) AS k CROSS JOIN attributes AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_patches
DELETE FROM patches WHERE (run, change) IN (
    SELECT x.run, x.change FROM json_each(:runs) AS k CROSS JOIN patches AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_publication_waits
DELETE FROM publication_waits WHERE (run, op) IN (
    SELECT x.run, x.op FROM json_each(:runs) AS k CROSS JOIN publication_waits AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_usage
DELETE FROM usage WHERE (run, id) IN (
    SELECT x.run, x.id FROM json_each(:runs) AS k CROSS JOIN usage AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_budget_waits
DELETE FROM budget_waits WHERE (run, step) IN (
    SELECT x.run, x.step FROM json_each(:runs) AS k CROSS JOIN budget_waits AS x ON x.run = k.value LIMIT :limit);

-- name: sweep_stream_writers
DELETE FROM stream_writers WHERE (run, step, stream) IN (
    SELECT x.run, x.step, x.stream FROM json_each(:runs) AS k CROSS JOIN stream_writers AS x ON x.run = k.value LIMIT :limit);

-- name: bare
UPDATE remainders SET bare = 1 WHERE run IN (SELECT value FROM json_each(:runs));

-- name: orphan_live
-- A run that goes on without the one that started it.
UPDATE runs SET parent = NULL, parent_op = NULL
WHERE ended_at IS NULL AND parent IN (SELECT value FROM json_each(:runs));

-- name: forget_remaining_streams
DELETE FROM remaining_streams WHERE stream IN (SELECT value FROM json_each(:runs));

-- name: forget_remainders
DELETE FROM remainders WHERE run IN (
    SELECT m.run FROM remainders AS m
    WHERE m.bare = 1 AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.parent = m.run)
    LIMIT :limit);
