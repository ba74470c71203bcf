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
