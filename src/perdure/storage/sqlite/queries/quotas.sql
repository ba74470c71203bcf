-- How much namespaces may have: one row each, read, computed and written back within one transaction.

-- name: quota
SELECT data FROM quotas WHERE namespace = :namespace;

-- name: quotas
SELECT namespace, data FROM quotas ORDER BY namespace;

-- name: keep_quota
INSERT INTO quotas (namespace, data) VALUES (:namespace, :data)
ON CONFLICT (namespace) DO UPDATE SET data = excluded.data;

-- name: drop_quota
DELETE FROM quotas WHERE namespace = :namespace;

-- name: ids_there
SELECT id FROM runs WHERE next IS NULL AND id IN (SELECT value FROM json_each(:ids));

-- name: live_within
-- The index has no other runs than live ones of namespaces.
SELECT count(*) FROM runs
WHERE ended_at IS NULL AND id >= ':' AND id < ';' AND id >= :low AND id < :high;

-- name: events_within
SELECT ifnull(sum(seq), 0) FROM (
    SELECT seq FROM runs WHERE next IS NULL AND id >= :low AND id < :high
    UNION ALL SELECT seq FROM runs WHERE next IS NOT NULL AND id >= :low AND id < :high
);

-- name: length_within
-- The mean length of some events.
SELECT ifnull(avg(length(data)), 0) FROM (
    SELECT e.data FROM events AS e
    WHERE e.run IN (SELECT run FROM runs WHERE next IS NULL AND id >= :low AND id < :high LIMIT 100)
    LIMIT 2000
);

-- name: spent_within
-- Of runs that are there, and of those that were removed.
SELECT ifnull((
    SELECT sum(u.cost) FROM (
        SELECT run FROM runs WHERE next IS NULL AND id >= :low AND id < :high
        UNION ALL SELECT run FROM runs WHERE next IS NOT NULL AND id >= :low AND id < :high
    ) AS r CROSS JOIN usage AS u ON u.run = r.run
    WHERE u.at >= :since AND u.state <> 'reused' AND u.counted = 0
), 0) + ifnull((
    SELECT sum(t.cost) FROM usage_totals AS t
    WHERE t.day >= :first AND t.namespace = :low AND t.state <> 'reused'
), 0);
