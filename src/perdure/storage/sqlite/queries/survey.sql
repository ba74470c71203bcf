-- Looking at very many runs.

-- name: key_range
-- Of the runs below a key.
SELECT (SELECT min(run) FROM runs), (SELECT max(run) FROM runs WHERE run < ifnull(:before, 9223372036854775807));

-- name: having
-- Keys of runs that have an attribute with one of these values: [[family, value], ...].
SELECT attr.run FROM json_each(:choices) AS v
     CROSS JOIN attributes AS attr ON attr.name = :name AND attr.family = v.value ->> 0 AND attr.value = v.value ->> 1
LIMIT :limit;

-- name: having_between
-- Keys of runs that have an attribute with a value from here to there.
SELECT run FROM attributes WHERE name = :name AND family = :family AND value >= :low AND value <= :high LIMIT :limit;

-- name: workflows_above
SELECT DISTINCT workflow FROM runs WHERE run > :floor ORDER BY workflow;

-- name: tallies
SELECT status, workflow, count(*) FROM runs GROUP BY status, workflow;

-- name: tallies_of
SELECT r.status, r.workflow, count(*) FROM json_each(:statuses) AS s CROSS JOIN runs AS r ON r.status = s.value
GROUP BY r.status, r.workflow;

-- name: blocked
SELECT ifnull(block_code, ''), workflow, count(*) FROM runs WHERE status = 'blocked' GROUP BY 1, 2;

-- name: of_statuses
SELECT r.run FROM json_each(:statuses) AS s CROSS JOIN runs AS r ON r.status = s.value LIMIT :limit;

-- name: of_kind
SELECT run FROM runs WHERE status = :status AND workflow = :workflow ORDER BY run DESC LIMIT :limit OFFSET :skip;

-- name: finished
-- How many of the newest ended runs ended how in which part of a time.
SELECT CAST((ended_at - :since) / :width AS INTEGER), status, count(*), min(ended_at)
FROM (
    SELECT ended_at, status, workflow FROM runs
    WHERE ended_at IS NOT NULL AND ended_at >= :since
    ORDER BY ended_at DESC LIMIT :limit
)
WHERE substr(workflow, 1, 5) <> 'step/'
GROUP BY 1, 2;

-- name: ends
SELECT workflow, queue, status, count(*), min(ended_at)
FROM (
    SELECT workflow, queue, status, ended_at FROM runs
    WHERE ended_at IS NOT NULL AND ended_at >= :since
    ORDER BY ended_at DESC LIMIT :limit
)
GROUP BY 1, 2, 3;

-- name: took
SELECT workflow, ended_at - started_at FROM runs
WHERE ended_at IS NOT NULL AND started_at IS NOT NULL ORDER BY ended_at DESC LIMIT :limit;

-- name: driven_since
SELECT run FROM runs WHERE owner IS NOT NULL AND owner > 0 AND started_at < :before ORDER BY started_at LIMIT :limit;
