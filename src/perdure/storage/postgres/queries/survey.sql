-- Looking at very many runs.

-- name: floor_below
SELECT run FROM perdure.runs WHERE run < %(before)s::bigint ORDER BY run DESC LIMIT 1 OFFSET %(depth)s::bigint;

-- name: having_text
-- Keys of runs that have an attribute with one of these values.
SELECT a.run
FROM unnest(%(texts)s::text[]) AS t (text) CROSS JOIN LATERAL (  -- else all values of the name might be read
    SELECT run FROM perdure.attributes
    WHERE family = 'text' AND name = %(name)s::text AND text = t.text LIMIT %(limit)s::bigint
) AS a
LIMIT %(limit)s::bigint;

-- name: having_number
SELECT a.run
FROM unnest(%(numbers)s::numeric[]) AS n (number) CROSS JOIN LATERAL (
    SELECT run FROM perdure.attributes
    WHERE family <> 'text' AND name = %(name)s::text AND number = n.number LIMIT %(limit)s::bigint
) AS a
LIMIT %(limit)s::bigint;

-- name: having_from
SELECT run FROM perdure.attributes
WHERE family <> 'text' AND name = %(name)s::text AND number >= %(number)s::numeric
LIMIT %(limit)s::bigint;

-- name: having_upto
SELECT run FROM perdure.attributes
WHERE family <> 'text' AND name = %(name)s::text AND number <= %(number)s::numeric
LIMIT %(limit)s::bigint;

-- name: workflows_above
SELECT DISTINCT workflow FROM perdure.runs WHERE run > %(floor)s::bigint;

-- name: tallies
SELECT status, workflow, count(*) FROM perdure.runs GROUP BY status, workflow;

-- name: of_statuses
-- Only for statuses that the index knows.
SELECT r.run
FROM unnest(%(statuses)b::text[]) AS s (status) CROSS JOIN LATERAL (
    SELECT run FROM perdure.runs
    WHERE status = s.status AND status NOT IN ('queued', 'running', 'waiting', 'completed', 'continued')
    ORDER BY workflow, run LIMIT %(limit)s::bigint
) AS r
LIMIT %(limit)s::bigint;

-- name: of_kind
-- The same.
SELECT run FROM perdure.runs
WHERE status = %(status)s::text AND workflow = %(workflow)s::text
  AND status NOT IN ('queued', 'running', 'waiting', 'completed', 'continued')
ORDER BY run DESC LIMIT %(limit)s::bigint OFFSET %(skip)s::bigint;

-- name: of_usual_kind
SELECT run FROM perdure.runs WHERE status = %(status)s::text AND workflow = %(workflow)s::text
ORDER BY run DESC LIMIT %(limit)s::bigint OFFSET %(skip)s::bigint;

-- name: tallies_of
-- Of statuses that the index knows.
SELECT status, workflow, count(*) FROM perdure.runs
WHERE status = ANY (%(statuses)b::text[]) AND status NOT IN ('queued', 'running', 'waiting', 'completed', 'continued')
GROUP BY status, workflow;

-- name: blocked
SELECT coalesce(block_code, ''), workflow, count(*) FROM perdure.runs
WHERE status = 'blocked' AND status NOT IN ('queued', 'running', 'waiting', 'completed', 'continued')
GROUP BY 1, 2;

-- name: finished
-- How many of the newest ended runs ended how in which part of a time.
SELECT floor((ended_at - %(since)s::double precision) / %(width)s::double precision)::bigint, status, count(*),
       min(ended_at)
FROM (
    SELECT ended_at, status, workflow FROM perdure.runs
    WHERE ended_at IS NOT NULL AND ended_at >= %(since)s::double precision
    ORDER BY ended_at DESC LIMIT %(limit)s::bigint
) AS newest
WHERE left(workflow, 5) <> 'step/'
GROUP BY 1, 2;

-- name: ends
SELECT workflow, queue, status, count(*), min(ended_at)
FROM (
    SELECT workflow, queue, status, ended_at FROM perdure.runs
    WHERE ended_at IS NOT NULL AND ended_at >= %(since)s::double precision
    ORDER BY ended_at DESC LIMIT %(limit)s::bigint
) AS newest
GROUP BY 1, 2, 3;

-- name: took
SELECT workflow, ended_at - started_at FROM perdure.runs
WHERE ended_at IS NOT NULL AND started_at IS NOT NULL ORDER BY ended_at DESC LIMIT %(limit)s::bigint;

-- name: driven_since
SELECT run FROM perdure.runs
WHERE owner IS NOT NULL AND owner > 0 AND started_at < %(before)s::double precision
ORDER BY started_at LIMIT %(limit)s::bigint;
