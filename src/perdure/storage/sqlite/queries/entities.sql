-- Entities: runs whose replay needn't begin at the beginning.

-- name: keep_checkpoint
UPDATE runs SET checkpoint = :seq WHERE run = :run;

-- name: first_event
-- That of a run whose replay goes on after a checkpoint.
SELECT link, data FROM events WHERE run = :run AND seq = 1;

-- name: kinds_of_entities
SELECT workflow, count(*) FROM runs WHERE checkpoint IS NOT NULL AND next IS NULL
GROUP BY workflow ORDER BY workflow;

-- name: find_entities
SELECT run, id FROM runs
WHERE checkpoint IS NOT NULL AND next IS NULL AND workflow = :workflow
  AND (:before IS NULL OR run < :before)
  AND (:text IS NULL OR instr(id, :text) > 0)
ORDER BY run DESC
LIMIT :limit;
