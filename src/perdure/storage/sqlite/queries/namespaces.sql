-- Looking at one namespace: `runs_of_namespace` knows its runs, by what their ids begin with. Statements that mean that
-- index say its condition word for word.

-- name: namespaces
SELECT substr(id, 1, instr(id, '/')), count(*) FROM runs WHERE substr(id, 1, 1) = ':' GROUP BY 1 ORDER BY 1;

-- name: find_within
-- Keys of the runs of a namespace that a filter matches, newest first.
SELECT r.run
FROM runs AS r
WHERE substr(r.id, 1, 1) = ':' AND substr(r.id, 1, instr(r.id, '/')) = :within
  AND r.run < :before AND r.run > :floor AND r.next IS NULL
  AND (:text IS NULL OR instr(substr(r.id, length(:within) + 1), :text) > 0 OR instr(r.reason, :text) > 0)
  -- with: wanted
ORDER BY r.run DESC
LIMIT :limit;

-- name: floor_within
SELECT run FROM runs
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within AND run < :before
ORDER BY run DESC LIMIT 1 OFFSET :depth;

-- name: workflows_within
SELECT DISTINCT workflow FROM (
    SELECT workflow FROM runs
    WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
    ORDER BY run DESC LIMIT :depth
) ORDER BY 1;

-- name: tallies_within
SELECT status, workflow, count(*) FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
  AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
GROUP BY status, workflow ORDER BY status, workflow;

-- name: of_kind_within
SELECT run FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
  AND status = :status AND workflow = :workflow
ORDER BY run DESC LIMIT :limit OFFSET :skip;

-- name: finished_within
SELECT CAST((ended_at - :since) / :width AS INTEGER), status, count(*), min(ended_at)
FROM (
    SELECT ended_at, status, workflow FROM runs INDEXED BY runs_of_namespace
    WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
      AND ended_at IS NOT NULL AND ended_at >= :since
    ORDER BY ended_at DESC LIMIT :limit
)
WHERE substr(workflow, 1, 5) <> 'step/'
GROUP BY 1, 2;

-- name: blocked_within
SELECT ifnull(block_code, ''), workflow, count(*) FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within AND status = 'blocked'
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: ends_within
SELECT workflow, queue, status, count(*), min(ended_at)
FROM (
    SELECT workflow, queue, status, ended_at FROM runs INDEXED BY runs_of_namespace
    WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
      AND ended_at IS NOT NULL AND ended_at >= :since
    ORDER BY ended_at DESC LIMIT :limit
)
GROUP BY 1, 2, 3;

-- name: took_within
SELECT workflow, ended_at - started_at FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
  AND ended_at IS NOT NULL AND started_at IS NOT NULL
ORDER BY ended_at DESC LIMIT :limit;

-- name: driven_within
SELECT run FROM runs INDEXED BY runs_owned
WHERE owner IS NOT NULL AND owner > 0 AND started_at < :before
  AND substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
ORDER BY started_at LIMIT :limit;

-- name: kinds_within
SELECT workflow, count(*) FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
  AND checkpoint IS NOT NULL AND next IS NULL
GROUP BY workflow ORDER BY workflow;

-- name: entities_within
SELECT run, id FROM runs INDEXED BY runs_of_namespace
WHERE substr(id, 1, 1) = ':' AND substr(id, 1, instr(id, '/')) = :within
  AND checkpoint IS NOT NULL AND next IS NULL AND workflow = :workflow AND run < :before
  AND (:text IS NULL OR instr(substr(id, length(:within) + 1), :text) > 0)
ORDER BY run DESC
LIMIT :limit;

-- name: waiting_within
SELECT name, condition, count(*) FROM publication_waits
WHERE substr(name, 1, length(:within)) = :within
GROUP BY name, condition ORDER BY name, condition LIMIT 1000;

-- name: publications_new_within
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE number IS NULL AND substr(name, 1, length(:within)) = :within ORDER BY at, id LIMIT :limit;

-- name: publications_within
SELECT id, name, key, payload, at, number, settled FROM publications
WHERE number IS NOT NULL AND number < :before AND substr(name, 1, length(:within)) = :within
ORDER BY number DESC LIMIT :limit;
