-- How much room is taken.

-- name: table_sizes
-- Tables with their indexes. Every page is read.
SELECT s.tbl_name, sum(d.pgsize)
FROM dbstat AS d JOIN sqlite_schema AS s ON s.name = d.name
WHERE d.aggregate = 1
GROUP BY s.tbl_name ORDER BY 2 DESC, 1;

-- name: run_keys
SELECT (SELECT min(run) FROM runs), (SELECT max(run) FROM runs);

-- name: oldest_run
SELECT created_at FROM runs ORDER BY run LIMIT 1;

-- name: sampled_runs
-- The first run from each of these keys on; whether it has that key; how its events are.
SELECT r.workflow, r.seq, count(e.seq), ifnull(sum(length(e.data)), 0), r.run = k.value
FROM json_each(:keys) AS k
     CROSS JOIN runs AS r ON r.run = (SELECT run FROM runs WHERE run >= k.value ORDER BY run LIMIT 1)
     LEFT JOIN events AS e ON e.run = r.run AND e.seq <= :most
GROUP BY k.key;

-- name: count_remainders
SELECT count(*) FROM (SELECT 1 FROM remainders WHERE bare = 0 LIMIT 100000);
