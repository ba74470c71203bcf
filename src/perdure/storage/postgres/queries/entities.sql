-- Entities: runs whose replay needn't begin at the beginning.

-- name: keep_checkpoint
UPDATE perdure.runs SET checkpoint = %(seq)s::bigint WHERE run = %(run)s::bigint;

-- name: kinds_of_entities
SELECT workflow, count(*) FROM perdure.runs WHERE checkpoint IS NOT NULL AND next IS NULL
GROUP BY workflow ORDER BY workflow;

-- name: find_entities
SELECT run, id FROM perdure.runs
WHERE checkpoint IS NOT NULL AND next IS NULL AND workflow = %(workflow)s::text
  AND (%(before)s::bigint IS NULL OR run < %(before)s::bigint)
  AND (%(text)s::text IS NULL OR strpos(id, %(text)s::text) > 0)
ORDER BY run DESC
LIMIT %(limit)s::bigint;
