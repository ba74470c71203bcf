-- How much namespaces may have: one row each, locked, computed and written back within one transaction.

-- name: quota
SELECT data FROM perdure.quotas WHERE namespace = %(namespace)s FOR UPDATE;

-- name: quotas
SELECT namespace, data FROM perdure.quotas ORDER BY namespace COLLATE "C";

-- name: keep_quota
INSERT INTO perdure.quotas (namespace, data) VALUES (%(namespace)s, %(data)s::bytea)
ON CONFLICT (namespace) DO UPDATE SET data = excluded.data;

-- name: drop_quota
DELETE FROM perdure.quotas WHERE namespace = %(namespace)s;

-- name: ids_there
SELECT id FROM perdure.ids WHERE id = ANY (%(ids)s::text[]);

-- name: live_within
-- The index has no other runs than live ones of namespaces.
SELECT count(*) FROM perdure.runs
WHERE ended_at IS NULL AND id COLLATE "C" >= ':' AND id COLLATE "C" < ';'
  AND id COLLATE "C" >= %(low)s::text AND id COLLATE "C" < %(high)s::text;

-- name: events_within
SELECT coalesce(sum(seq), 0)::bigint FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text;

-- name: length_within
-- The mean length of some events.
SELECT coalesce(avg(length(s.data)), 0)::double precision FROM (
    SELECT e.data FROM perdure.events AS e
    WHERE e.run = ANY (ARRAY(
        SELECT run FROM perdure.runs WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text LIMIT 100
    ))
    LIMIT 2000
) AS s;

-- name: spent_within
-- Of runs that are there, and of those that were removed.
SELECT coalesce((
    SELECT sum(u.cost)
    FROM perdure.usage AS u CROSS JOIN LATERAL (SELECT id FROM perdure.runs WHERE run = u.run OFFSET 0) AS r
    WHERE r.id COLLATE "C" >= %(low)s::text AND r.id COLLATE "C" < %(high)s::text
      AND u.at >= %(since)s::double precision AND u.state <> 'reused' AND NOT u.counted
), 0)::bigint + coalesce((
    SELECT sum(t.cost) FROM perdure.usage_totals AS t
    WHERE t.day >= %(first)s::bigint AND t.namespace = %(low)s::text AND t.state <> 'reused'
), 0)::bigint;
