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

-- name: partitioned_by
SELECT value FROM perdure.meta WHERE name = 'partitions';

-- name: note_partitions
INSERT INTO perdure.meta (name, value) VALUES ('partitions', %(span)s);

-- name: lock_new_meta
SELECT name FROM perdure.meta WHERE name = 'fleet' FOR UPDATE;

-- name: any_event
SELECT EXISTS (SELECT 1 FROM perdure.events);

-- name: partitions
-- Those that tend made, with the range of keys that their names tell.
SELECT tablename FROM pg_tables WHERE schemaname = 'perdure' AND tablename LIKE 'events_p%%' ORDER BY tablename;

-- name: left_in_range
-- Whether any run of these keys is there.
SELECT EXISTS (SELECT 1 FROM perdure.runs WHERE run >= %(low)s::bigint AND run < %(high)s::bigint);

-- name: hasten
-- What is left of runs of these keys needn't wait any more.
UPDATE perdure.remainders SET since = 0 WHERE run >= %(low)s::bigint AND run < %(high)s::bigint AND NOT bare;
