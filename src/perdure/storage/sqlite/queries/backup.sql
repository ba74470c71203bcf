-- A copy of the database that is to be gone on from: nobody who drove the former one can write here.

-- name: fence_runs
UPDATE runs
SET epoch = max(epoch, :beyond) + 1, owner = NULL, wake_at = iif(owner IS NULL, wake_at, :now)
WHERE ended_at IS NULL;

-- name: forget_workers
DELETE FROM workers;

-- name: forget_worker_numbers
DELETE FROM sqlite_sequence WHERE name = 'workers';

-- name: fence_worker_numbers
INSERT INTO sqlite_sequence (name, seq) VALUES ('workers', ?);
