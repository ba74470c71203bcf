-- Rate limits: one row each, locked, computed and written back within one transaction.

-- name: lock_limits
-- In the order of their names, so that no two batches wait for each other.
SELECT name, data FROM perdure.limits WHERE name = ANY (%(names)s::text[]) ORDER BY name FOR UPDATE;

-- name: make_limits
INSERT INTO perdure.limits (name, data)
SELECT n.name, ''::bytea FROM unnest(%(names)s::text[]) AS n (name) ORDER BY n.name
ON CONFLICT (name) DO NOTHING;

-- name: keep_limits
-- They are there and locked; nothing is joined.
INSERT INTO perdure.limits (name, data) SELECT * FROM unnest(%(names)s::text[], %(data)s::bytea[])
ON CONFLICT (name) DO UPDATE SET data = excluded.data;

-- name: swap_limit
-- The compare-and-set of a worker that has the limit to itself.
UPDATE perdure.limits SET data = %(after)s::bytea
WHERE name = %(name)s AND data = %(before)s::bytea
RETURNING name;

-- name: limits
SELECT name, data FROM perdure.limits ORDER BY name COLLATE "C";
