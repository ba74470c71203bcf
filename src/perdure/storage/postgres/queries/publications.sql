-- Publications, and who wants them.

-- name: publish
INSERT INTO perdure.publications (id, name, key, payload, at)
VALUES (%(id)s, %(name)s, %(key)s::text, %(payload)s::bytea, %(at)s::double precision)
ON CONFLICT (id) DO NOTHING;

-- name: open_wait
INSERT INTO perdure.publication_waits (run, op, name, condition, fields, match, since, after, fresh)
VALUES (%(run)s::bigint, %(op)s, %(name)s, %(condition)s, %(fields)s, %(match)s::bytea, %(since)s::double precision,
        %(after)s::bigint, true)
ON CONFLICT (run, op) DO UPDATE
SET name = excluded.name, condition = excluded.condition, fields = excluded.fields, match = excluded.match,
    since = excluded.since, after = excluded.after, fresh = true;

-- name: has_shape
-- Looked at first: an insert that does nothing still costs a transaction id, and a lock.
SELECT 1 FROM perdure.publication_shapes WHERE name = %(name)s AND fields = %(fields)s;

-- name: add_shape
INSERT INTO perdure.publication_shapes (name, fields) VALUES (%(name)s, %(fields)s)
ON CONFLICT (name, fields) DO NOTHING;

-- name: close_wait
DELETE FROM perdure.publication_waits WHERE run = %(run)s::bigint AND op = %(op)s;

-- name: close_waits
DELETE FROM perdure.publication_waits WHERE run = %(run)s::bigint;

-- name: put_subscription
INSERT INTO perdure.subscriptions (workflow, event, data) VALUES (%(workflow)s, %(event)s, %(data)s::bytea)
ON CONFLICT (workflow) DO UPDATE SET event = excluded.event, data = excluded.data;

-- name: subscriptions
SELECT data FROM perdure.subscriptions ORDER BY workflow COLLATE "C";

-- name: drop_subscription
DELETE FROM perdure.subscriptions WHERE workflow = %(workflow)s;

-- name: drop_gatherings
DELETE FROM perdure.gatherings WHERE workflow = %(workflow)s;

-- name: drop_gathered
DELETE FROM perdure.gathered WHERE workflow = %(workflow)s;

-- name: waiting
SELECT name, condition, count(*) FROM perdure.publication_waits GROUP BY name, condition
ORDER BY name COLLATE "C", condition COLLATE "C" LIMIT 1000;

-- name: publications_pending
SELECT NOT EXISTS (SELECT 1 FROM perdure.moves) AND (
           EXISTS (SELECT 1 FROM perdure.publications WHERE number IS NULL)
           OR
           -- with: any_unsettled
           OR EXISTS (SELECT 1 FROM perdure.publication_waits WHERE fresh)
       ),
       (SELECT min(due_at) FROM perdure.gatherings WHERE NOT EXISTS (SELECT 1 FROM perdure.moves));

-- name: publications_new
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE number IS NULL ORDER BY at, id LIMIT %(limit)s::bigint;

-- name: publications_numbered
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE number IS NOT NULL AND number < %(before)s::bigint ORDER BY number DESC LIMIT %(limit)s::bigint;

-- name: publications_new_named
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE number IS NULL AND name = %(name)s ORDER BY at, id LIMIT %(limit)s::bigint;

-- name: publications_named
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE name = %(name)s AND number IS NOT NULL AND number < %(before)s::bigint
ORDER BY number DESC LIMIT %(limit)s::bigint;

-- name: forget_publications
DELETE FROM perdure.publications WHERE id = ANY (ARRAY(
    SELECT id FROM perdure.publications WHERE number IS NOT NULL AND number < %(before)s::bigint AND settled
    ORDER BY number LIMIT %(limit)s::bigint
));
