-- What a distribution asks; see storage/distribution.py.

-- name: lock_clock
-- The writer is alone anyway.
SELECT number,
       EXISTS (SELECT 1 FROM publications WHERE number IS NULL),
       EXISTS (SELECT 1 FROM publication_waits WHERE fresh = 1),
       EXISTS (
           SELECT 1 FROM publications INDEXED BY publications_unsettled WHERE settled = 0 AND number IS NOT NULL
       ),
       EXISTS (SELECT 1 FROM gatherings WHERE due_at <= :now),
       EXISTS (SELECT 1 FROM subscriptions)
FROM publication_clock WHERE NOT EXISTS (SELECT 1 FROM moves);

-- name: unnumbered
SELECT id FROM publications WHERE number IS NULL ORDER BY at, id LIMIT :limit;

-- name: number_publication
UPDATE publications SET number = ? WHERE id = ?;

-- name: set_clock
UPDATE publication_clock SET number = :number;

-- name: waits_new
SELECT run, op, name, condition, since, after FROM publication_waits WHERE fresh = 1 ORDER BY run, op LIMIT :limit;

-- name: publications_after
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE name = :name AND number > :after ORDER BY number LIMIT :limit;

-- name: looked_back
UPDATE publication_waits SET fresh = 0 WHERE run = ? AND op = ?;

-- name: publications_unsettled
-- The index is named, since the other one over numbers would have to be walked through.
SELECT id, name, key, payload, at, number, settled FROM publications INDEXED BY publications_unsettled
WHERE settled = 0 AND number IS NOT NULL ORDER BY number LIMIT :limit;

-- name: shapes
SELECT s.name, s.fields FROM json_each(:names) AS k CROSS JOIN publication_shapes AS s ON s.name = k.value;

-- name: takers
SELECT w.run, w.op, w.name, w.condition, w.since, w.after
FROM publication_waits AS w
WHERE w.match = :match AND w.fresh = 0 AND (w.run, w.op) > (:run, :op)
ORDER BY w.run, w.op LIMIT :limit;

-- name: settle_publication
UPDATE publications SET settled = 1 WHERE id = ?;

-- name: subscriptions_to
SELECT s.workflow, s.data FROM json_each(:events) AS k CROSS JOIN subscriptions AS s ON s.event = k.value
UNION
SELECT s.workflow, s.data FROM json_each(:workflows) AS k CROSS JOIN subscriptions AS s ON s.workflow = k.value
ORDER BY 1;

-- name: gathering
SELECT workflow, grp, due_at, count FROM gatherings WHERE workflow = :workflow AND grp = :grp;

-- name: gatherings_due
SELECT workflow, grp, due_at, count FROM gatherings WHERE due_at <= :now ORDER BY due_at, workflow, grp LIMIT :limit;

-- name: gathered
SELECT number, at, payload FROM gathered WHERE workflow = :workflow AND grp = :grp ORDER BY number LIMIT :limit;

-- name: keep_gathering
INSERT INTO gatherings (workflow, grp, due_at, count) VALUES (:workflow, :grp, :due_at, :count)
ON CONFLICT (workflow, grp) DO UPDATE SET due_at = excluded.due_at, count = excluded.count;

-- name: drop_gathering
DELETE FROM gatherings WHERE workflow = :workflow AND grp = :grp;

-- name: drop_content
DELETE FROM gathered WHERE workflow = :workflow AND grp = :grp AND number <= :upto;

-- name: add_content
INSERT INTO gathered (workflow, grp, number, at, payload) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING;

-- name: publication_number
SELECT number FROM publication_clock;

-- name: ids_of
SELECT r.run, r.id FROM json_each(:runs) AS j CROSS JOIN runs AS r ON r.run = j.value;
