-- Looking at one namespace: `runs_of_namespace` knows its runs, by what their ids begin with. Statements that mean that
-- index say its condition word for word.

-- name: namespaces
SELECT split_part(id, '/', 1) || '/', count(*) FROM perdure.runs WHERE left(id, 1) = ':' GROUP BY 1 ORDER BY 1;

-- name: find_within
-- Keys of the runs of a namespace that a filter matches, newest first.
SELECT r.run
FROM perdure.runs AS r
WHERE left(r.id, 1) = ':' AND split_part(r.id, '/', 1) = %(mark)s::text
  AND r.run < %(before)s::bigint AND r.run > %(floor)s::bigint AND r.next IS NULL
  AND (%(text)s::text IS NULL OR strpos(substr(r.id, length(%(mark)s::text) + 2), %(text)s::text) > 0
       OR strpos(r.reason, %(text)s::text) > 0)
  -- with: wanted
ORDER BY r.run DESC
LIMIT %(limit)s::bigint;

-- name: floor_within
SELECT run FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text AND run < %(before)s::bigint
ORDER BY run DESC LIMIT 1 OFFSET %(depth)s::bigint;

-- name: workflows_within
SELECT DISTINCT workflow FROM (
    SELECT workflow FROM perdure.runs
    WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
    ORDER BY run DESC LIMIT %(depth)s::bigint
) AS newest ORDER BY 1;

-- name: tallies_within
SELECT status, workflow, count(*) FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
  AND (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s::text[]))
GROUP BY status, workflow ORDER BY status, workflow;

-- name: of_kind_within
SELECT run FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
  AND status = %(status)s::text AND workflow = %(workflow)s::text
ORDER BY run DESC LIMIT %(limit)s::bigint OFFSET %(skip)s::bigint;

-- name: finished_within
SELECT floor((ended_at - %(since)s::double precision) / %(width)s::double precision)::bigint, status, count(*), min(ended_at)
FROM (
    SELECT ended_at, status, workflow FROM perdure.runs
    WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
      AND ended_at IS NOT NULL AND ended_at >= %(since)s::double precision
    ORDER BY ended_at DESC LIMIT %(limit)s::bigint
) AS newest
WHERE left(workflow, 5) <> 'step/'
GROUP BY 1, 2;

-- name: blocked_within
SELECT coalesce(block_code, ''), workflow, count(*) FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text AND status = 'blocked'
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: ends_within
SELECT workflow, queue, status, count(*), min(ended_at)
FROM (
    SELECT workflow, queue, status, ended_at FROM perdure.runs
    WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
      AND ended_at IS NOT NULL AND ended_at >= %(since)s::double precision
    ORDER BY ended_at DESC LIMIT %(limit)s::bigint
) AS newest
GROUP BY 1, 2, 3;

-- name: took_within
SELECT workflow, ended_at - started_at FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
  AND ended_at IS NOT NULL AND started_at IS NOT NULL
ORDER BY ended_at DESC LIMIT %(limit)s::bigint;

-- name: driven_within
SELECT run FROM perdure.runs
WHERE owner IS NOT NULL AND owner > 0 AND started_at < %(before)s::double precision
  AND left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
ORDER BY started_at LIMIT %(limit)s::bigint;

-- name: kinds_within
SELECT workflow, count(*) FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
  AND checkpoint IS NOT NULL AND next IS NULL
GROUP BY workflow ORDER BY workflow;

-- name: entities_within
SELECT run, id FROM perdure.runs
WHERE left(id, 1) = ':' AND split_part(id, '/', 1) = %(mark)s::text
  AND checkpoint IS NOT NULL AND next IS NULL AND workflow = %(workflow)s::text AND run < %(before)s::bigint
  AND (%(text)s::text IS NULL OR strpos(substr(id, length(%(mark)s::text) + 2), %(text)s::text) > 0)
ORDER BY run DESC
LIMIT %(limit)s::bigint;

-- name: waiting_within
SELECT name, condition, count(*) FROM perdure.publication_waits
WHERE split_part(name, '/', 1) = %(mark)s::text AND left(name, 1) = ':'
GROUP BY name, condition ORDER BY name COLLATE "C", condition COLLATE "C" LIMIT 1000;

-- name: publications_new_within
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE number IS NULL AND split_part(name, '/', 1) = %(mark)s::text AND left(name, 1) = ':' ORDER BY at, id LIMIT %(limit)s::bigint;

-- name: publications_within
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE number IS NOT NULL AND number < %(before)s::bigint AND split_part(name, '/', 1) = %(mark)s::text AND left(name, 1) = ':'
ORDER BY number DESC LIMIT %(limit)s::bigint;
