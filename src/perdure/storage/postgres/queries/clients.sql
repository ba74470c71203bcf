-- How runs come into being and get mail.

-- name: take_ids
-- Make ids mean these runs, where they mean nothing yet. Tells which are new.
INSERT INTO perdure.ids (id, run)
SELECT i.id, i.run FROM unnest(%(ids)b::text[], %(runs)b::bigint[]) AS i (id, run)
ORDER BY i.id
ON CONFLICT (id) DO NOTHING
RETURNING run;

-- name: create_many
-- Runs whose ids are theirs. A worker that isn't registered (any more) can't own one, nor can any if the queue has
-- limits (then the run stands in line, unless it has a slot already) or is paused.
INSERT INTO perdure.runs (
    run, id, workflow, status, queue, fingerprint, seq, chain, epoch, owner, created_at, updated_at, started_at,
    wake_at, semantics, parent, parent_op, on_parent_close, generation,
    version, pinned, key, priority, dedup, slot, lane, rank
)
SELECT n.run, n.id, n.workflow, CASE WHEN w.id IS NULL THEN 'queued' ELSE 'running' END, n.queue, n.fingerprint, 1,
       n.chain,
       CASE WHEN w.id IS NULL THEN 0 ELSE 1 END, w.id, n.created_at, n.created_at,
       CASE WHEN w.id IS NULL THEN NULL ELSE n.created_at END,
       CASE WHEN w.id IS NULL THEN n.wake_at ELSE NULL END, %(semantics)s::bigint, n.parent, n.parent_op,
       n.on_parent_close, n.generation, w.version, n.pinned, n.key, n.priority, n.dedup,
       coalesce(q.limited, false) AND n.slot,
       CASE WHEN q.limited AND NOT n.slot
            THEN CASE WHEN q.keyed AND n.wake_at <= n.created_at THEN coalesce(n.key, '') ELSE '' END END,
       CASE WHEN q.limited AND NOT n.slot
            THEN CASE WHEN n.wake_at > n.created_at THEN -2000000000 WHEN q.ranked THEN n.priority ELSE 0 END END
FROM unnest(
    %(runs)b::bigint[], %(ids)b::text[], %(workflows)b::text[], %(queues)b::text[], %(fingerprints)b::bytea[],
    %(created)b::double precision[], %(wakes)b::double precision[], %(owners)b::bigint[], %(parents)b::bigint[],
    %(ops)b::text[], %(policies)b::text[], %(generations)b::bigint[],
    %(pinned)b::boolean[], %(keys)b::text[], %(priorities)b::bigint[], %(dedups)b::text[], %(slots)b::boolean[],
    %(chains)b::bigint[]
) AS n (
    run, id, workflow, queue, fingerprint, created_at, wake_at, owner, parent, parent_op, on_parent_close,
    generation, pinned, key, priority, dedup, slot, chain
)
LEFT JOIN perdure.queues AS q ON q.name = n.queue
LEFT JOIN perdure.workers AS w
     ON w.id = n.owner AND (q.name IS NULL OR (NOT q.paused AND (n.slot OR NOT q.limited)))
RETURNING run, epoch;

-- name: keys_of
-- Not joined: see `append_many`.
SELECT id, run, epoch, owner, parent FROM perdure.runs
WHERE run = ANY (ARRAY(SELECT i.run FROM perdure.ids AS i WHERE i.id = ANY (%(ids)b::text[])));

-- name: lock_newest
-- The run an id meant when the statement began, and the one that has followed it since.
SELECT run, next FROM perdure.runs
WHERE run = (SELECT i.run FROM perdure.ids AS i WHERE i.id = %(id)s)
FOR UPDATE;

-- name: lock_all_newest
-- The same for many ids at once, in the order in which everybody locks runs.
SELECT run FROM perdure.runs
WHERE run = ANY (ARRAY(SELECT i.run FROM perdure.ids AS i WHERE i.id = ANY (%(ids)b::text[])))
ORDER BY run
FOR UPDATE;

-- name: put_mail
INSERT INTO perdure.inbox (run, id, kind, data)
VALUES (%(run)s::bigint, %(number)s::bigint, %(kind)s, %(data)s::bytea);

-- name: more_mail
-- Count a new inbox item, and make the run due unless somebody drives it (who will look) or it is held. What
-- is patient doesn't cut short the delay with which a run was started. Not if `most` items wait there already.
UPDATE perdure.runs
SET mail = mail + 1, mail_number = mail_number + 1,
    wake_at = CASE
        WHEN owner IS NOT NULL OR status = 'paused' OR (status = 'blocked' AND block_code <> 'step')
             OR (status = 'queued' AND %(patient)s::boolean AND wake_at IS NOT NULL) THEN wake_at
        ELSE least(coalesce(wake_at, %(now)s::double precision), %(now)s::double precision) END
WHERE run = %(run)s::bigint AND ended_at IS NULL
  AND (%(most)s::bigint IS NULL OR mail < %(most)s::bigint)
RETURNING mail_number, owner;

-- name: more_undelivered
-- Count a message that came after its run's end.
UPDATE perdure.runs SET mail = mail + 1, mail_number = mail_number + 1
WHERE run = %(run)s::bigint AND ended_at IS NOT NULL
RETURNING mail_number;

-- name: put_key
-- Nothing happens if the run has had mail with this key.
INSERT INTO perdure.mail_keys (run, key) VALUES (%(run)s::bigint, %(key)s)
ON CONFLICT (run, key) DO NOTHING;

-- name: drop_key
DELETE FROM perdure.mail_keys WHERE run = %(run)s::bigint AND key = %(key)s;
