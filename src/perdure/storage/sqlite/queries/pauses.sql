-- Holding runs, and letting them go on. `paused` is NULL for a run that isn't to be held; else it is when a run
-- that nobody drove was due, or 0.

-- name: pause
UPDATE runs
SET paused = ifnull(wake_at, 0.0), wake_at = NULL, updated_at = :now,
    status = iif(owner IS NULL, 'paused', status), reason = iif(owner IS NULL, :reason, reason),
    block_code = iif(owner IS NULL, NULL, block_code)
WHERE run = :run AND paused IS NULL AND ended_at IS NULL;

-- name: unpause
-- A run that was started with a delay and never driven keeps its delay. One whose history was damaged, or is full, is
-- looked at again.
UPDATE runs
SET paused = NULL, updated_at = :now,
    status = iif(status = 'paused', iif(started_at IS NULL, 'queued', 'waiting'), status),
    reason = iif(status = 'paused', NULL, reason),
    wake_at = iif(status = 'paused', iif(started_at IS NULL, max(paused, :now), :now),
                  iif(block_code IN ('history', 'limit') AND owner IS NULL, :now, wake_at))
WHERE run = :run AND (paused IS NOT NULL OR block_code IN ('history', 'limit')) AND ended_at IS NULL;

-- name: has_ended
SELECT ended_at IS NOT NULL FROM runs WHERE run = :run;

-- name: inherit_pause
UPDATE runs SET paused = (SELECT iif(former.paused IS NULL, NULL, 0.0) FROM runs AS former WHERE former.run = :run)
WHERE run = :new;
