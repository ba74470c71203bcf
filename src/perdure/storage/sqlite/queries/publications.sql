-- Publications, and who wants them.

-- name: publish
INSERT INTO publications (id, name, key, payload, at) VALUES (:id, :name, :key, :payload, :at)
ON CONFLICT (id) DO NOTHING;

-- name: open_wait
INSERT INTO publication_waits (run, op, name, condition, fields, match, since, after, fresh)
VALUES (:run, :op, :name, :condition, :fields, :match, :since, :after, 1)
ON CONFLICT (run, op) DO UPDATE
SET name = excluded.name, condition = excluded.condition, fields = excluded.fields, match = excluded.match,
    since = excluded.since, after = excluded.after, fresh = 1;

-- name: add_shape
INSERT INTO publication_shapes (name, fields) VALUES (:name, :fields) ON CONFLICT DO NOTHING;

-- name: close_wait
DELETE FROM publication_waits WHERE run = :run AND op = :op;

-- name: close_waits
DELETE FROM publication_waits WHERE run = :run;

-- name: put_subscription
INSERT INTO subscriptions (workflow, event, data) VALUES (:workflow, :event, :data)
ON CONFLICT (workflow) DO UPDATE SET event = excluded.event, data = excluded.data;

-- name: subscriptions
SELECT data FROM subscriptions ORDER BY workflow;

-- name: drop_subscription
DELETE FROM subscriptions WHERE workflow = :workflow;

-- name: drop_gatherings
DELETE FROM gatherings WHERE workflow = :workflow;

-- name: drop_gathered
DELETE FROM gathered WHERE workflow = :workflow;

-- name: waiting
SELECT name, condition, count(*) FROM publication_waits GROUP BY name, condition ORDER BY name, condition LIMIT 1000;

-- name: publications_pending
SELECT NOT EXISTS (SELECT 1 FROM moves) AND (
           EXISTS (SELECT 1 FROM publications WHERE number IS NULL)
           OR EXISTS (
               SELECT 1 FROM publications INDEXED BY publications_unsettled WHERE settled = 0 AND number IS NOT NULL
           )
           OR EXISTS (SELECT 1 FROM publication_waits WHERE fresh = 1)
       ),
       (SELECT min(due_at) FROM gatherings WHERE NOT EXISTS (SELECT 1 FROM moves));

-- name: publications_new
SELECT id, name, key, payload, at, number, settled FROM publications WHERE number IS NULL ORDER BY at, id LIMIT :limit;

-- name: publications_numbered
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE number IS NOT NULL AND number < :before ORDER BY number DESC LIMIT :limit;

-- name: publications_new_named
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE number IS NULL AND name = :name ORDER BY at, id LIMIT :limit;

-- name: publications_named
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE name = :name AND number IS NOT NULL AND number < :before ORDER BY number DESC LIMIT :limit;

-- name: forget_publications
DELETE FROM publications WHERE id IN (
    SELECT id FROM publications WHERE number IS NOT NULL AND number < :before AND settled = 1
    ORDER BY number LIMIT :limit
);
