-- Entities: runs whose replay needn't begin at the beginning.

-- name: keep_checkpoint
UPDATE runs SET checkpoint = :seq WHERE run = :run;

-- name: first_event
-- That of a run whose replay goes on after a checkpoint.
SELECT link, data FROM events WHERE run = :run AND seq = 1;
