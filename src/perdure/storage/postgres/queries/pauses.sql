-- Holding runs, and letting them go on. `paused` is NULL for a run that isn't to be held; else it is when a run
-- that nobody drove was due, or 0.

-- name: pause
UPDATE perdure.runs
SET paused = coalesce(wake_at, 0.0), wake_at = NULL, updated_at = %(now)s::double precision,
    status = CASE WHEN owner IS NULL THEN 'paused' ELSE status END,
    reason = CASE WHEN owner IS NULL THEN %(reason)s::text ELSE reason END,
    block_code = CASE WHEN owner IS NULL THEN NULL ELSE block_code END
WHERE run = %(run)s::bigint AND paused IS NULL AND ended_at IS NULL;

-- name: unpause
-- A run that was started with a delay and never driven keeps its delay. One whose history was damaged, or is full, is
-- looked at again.
UPDATE perdure.runs
SET paused = NULL, updated_at = %(now)s::double precision,
    status = CASE WHEN status <> 'paused' THEN status WHEN started_at IS NULL THEN 'queued' ELSE 'waiting' END,
    reason = CASE WHEN status = 'paused' THEN NULL ELSE reason END,
    wake_at = CASE WHEN block_code IN ('history', 'limit') AND owner IS NULL THEN %(now)s::double precision
                   WHEN status <> 'paused' THEN wake_at
                   WHEN started_at IS NULL THEN greatest(paused, %(now)s::double precision)
                   ELSE %(now)s::double precision END
WHERE run = %(run)s::bigint AND (paused IS NOT NULL OR block_code IN ('history', 'limit')) AND ended_at IS NULL;

-- name: has_ended
SELECT ended_at IS NOT NULL FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: inherit_pause
UPDATE perdure.runs
SET paused = (SELECT CASE WHEN former.paused IS NULL THEN NULL ELSE 0.0 END
              FROM perdure.runs AS former WHERE former.run = %(run)s::bigint)
WHERE run = %(new)s::bigint;
