-- Entities: runs whose replay needn't begin at the beginning.

-- name: keep_checkpoint
UPDATE runs SET checkpoint = :seq WHERE run = :run;

-- name: checkpoints
-- After which event the replay of these runs may go on when it has read the first one.
SELECT r.run, r.checkpoint FROM json_each(:runs) AS i CROSS JOIN runs AS r ON r.run = i.value
WHERE r.checkpoint IS NOT NULL;
