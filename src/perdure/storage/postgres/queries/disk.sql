-- How much room is taken.

-- name: table_sizes
-- Partitions count as their table.
SELECT regexp_replace(tablename, '_p\d+$', ''),
       sum(pg_total_relation_size(quote_ident(schemaname) || '.' || quote_ident(tablename)))::bigint
FROM pg_tables WHERE schemaname = 'perdure'
GROUP BY 1 ORDER BY 2 DESC, 1;

-- name: count_runs
-- As the server last counted.
SELECT coalesce(sum(n_live_tup), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'perdure' AND relname = 'runs';

-- name: few_runs
SELECT count(*) FROM (SELECT 1 FROM perdure.runs LIMIT %(limit)s::bigint) AS s;

-- name: run_keys
SELECT min(run), max(run) FROM perdure.runs;

-- name: oldest_run
SELECT created_at FROM perdure.runs ORDER BY run LIMIT 1;

-- name: sampled_runs
-- The first run from each of these keys on, and how its events are.
SELECT r.workflow, r.seq, count(e.seq), coalesce(sum(length(e.data)), 0)::bigint
FROM (
    SELECT DISTINCT (SELECT run FROM perdure.runs WHERE run >= k.key ORDER BY run LIMIT 1) AS run
    FROM unnest(%(keys)b::bigint[]) AS k (key)
) AS s JOIN perdure.runs AS r ON r.run = s.run
     LEFT JOIN perdure.events AS e ON e.run = r.run AND e.seq <= %(most)s::bigint
GROUP BY r.run, r.workflow, r.seq;

-- name: count_remainders
SELECT count(*) FROM (SELECT 1 FROM perdure.remainders WHERE NOT bare LIMIT 100000) AS s;
