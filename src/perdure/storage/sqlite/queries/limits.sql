-- Rate limits: one row each, read, computed and written back within one transaction.

-- name: limits_named
SELECT name, data FROM limits WHERE name IN (SELECT value FROM json_each(:names));

-- name: keep_limit
INSERT INTO limits (name, data) VALUES (:name, :data) ON CONFLICT (name) DO UPDATE SET data = excluded.data;

-- name: limits
SELECT name, data FROM limits ORDER BY name;
