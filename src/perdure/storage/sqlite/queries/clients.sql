-- How runs come into being and get mail.

-- name: create
-- Nothing happens if the id exists. A worker that isn't registered (any more) can't own a run, nor can any if the
-- queue has limits (then it stands in line, unless it has a slot already) or is paused.
INSERT INTO runs (
    id, workflow, status, queue, fingerprint, seq, chain, epoch, owner, created_at, updated_at, started_at,
    wake_at, semantics, parent, parent_op, on_parent_close, generation, version,
    pinned, key, priority, dedup, slot, lane, rank
)
SELECT :id, :workflow, iif(w.id IS NULL, 'queued', 'running'), :queue, :fingerprint, 1, :chain,
       iif(w.id IS NULL, 0, 1), w.id, :created_at, :created_at, iif(w.id IS NULL, NULL, :created_at),
       iif(w.id IS NULL, :wake_at, NULL), :semantics, :parent, :parent_op, :on_parent_close, :generation,
       w.version, :pinned, :key, :priority, :dedup, ifnull(q.limited, 0) AND :slot,
       iif(q.limited = 1 AND NOT :slot, iif(q.keyed AND :wake_at <= :created_at, ifnull(:key, ''), ''), NULL),
       iif(q.limited = 1 AND NOT :slot,
           iif(:wake_at > :created_at, -2000000000, iif(q.ranked, :priority, 0)), NULL)
FROM (SELECT 1) LEFT JOIN queues AS q ON q.name = :queue
     LEFT JOIN workers AS w ON w.id = :owner AND (q.name IS NULL OR (NOT q.paused AND (:slot OR NOT q.limited)))
WHERE true
ON CONFLICT (id) WHERE next IS NULL DO NOTHING
RETURNING run, epoch;

-- name: create_many
-- The same for many runs: [[id, workflow, queue, fingerprint in hex, created_at, wake_at, owner, parent,
-- parent_op, on_parent_close, pinned, key, priority, chain], ...]. Tells which ids are new.
INSERT INTO runs (
    id, workflow, status, queue, fingerprint, seq, chain, epoch, owner, created_at, updated_at, started_at,
    wake_at, semantics, parent, parent_op, on_parent_close, generation, version,
    pinned, key, priority, slot, lane, rank
)
SELECT fresh.value ->> 0, fresh.value ->> 1, iif(w.id IS NULL, 'queued', 'running'), fresh.value ->> 2,
       unhex(fresh.value ->> 3), 1, fresh.value ->> 13, iif(w.id IS NULL, 0, 1), w.id, fresh.value ->> 4, fresh.value ->> 4,
       iif(w.id IS NULL, NULL, fresh.value ->> 4), iif(w.id IS NULL, fresh.value ->> 5, NULL), :semantics,
       fresh.value ->> 7, fresh.value ->> 8, fresh.value ->> 9, 1, w.version, fresh.value ->> 10,
       fresh.value ->> 11, fresh.value ->> 12, 0,
       iif(q.limited = 1,
           iif(q.keyed AND fresh.value ->> 5 <= fresh.value ->> 4, ifnull(fresh.value ->> 11, ''), ''), NULL),
       iif(q.limited = 1,
           iif(fresh.value ->> 5 > fresh.value ->> 4, -2000000000, iif(q.ranked, fresh.value ->> 12, 0)), NULL)
FROM json_each(:runs) AS fresh LEFT JOIN queues AS q ON q.name = fresh.value ->> 2
     LEFT JOIN workers AS w ON w.id = fresh.value ->> 6
                           AND (q.name IS NULL OR (NOT q.paused AND NOT q.limited))
WHERE true
ON CONFLICT (id) WHERE next IS NULL DO NOTHING
RETURNING id, run;

-- name: key_of
SELECT run, epoch, owner, parent FROM runs WHERE id = :id AND next IS NULL;

-- name: put_mail
INSERT INTO inbox (run, kind, data) VALUES (:run, :kind, :data);

-- name: more_mail
-- Count a new inbox item, and make the run due unless somebody drives it (who will look) or it is held. What
-- is patient doesn't cut short the delay with which a run was started. Not if `most` items wait there already.
UPDATE runs
SET mail = mail + 1,
    wake_at = iif(owner IS NOT NULL OR status = 'paused' OR (status = 'blocked' AND block_code <> 'step')
                  OR (status = 'queued' AND :patient AND wake_at IS NOT NULL),
                  wake_at, min(ifnull(wake_at, :now), :now))
WHERE run = :run AND ended_at IS NULL AND (:most IS NULL OR mail < :most);

-- name: more_undelivered
-- Count a message that came after its run's end.
UPDATE runs SET mail = mail + 1 WHERE run = :run AND ended_at IS NOT NULL;

-- name: has_key
-- Whether the run has had mail with this key.
SELECT EXISTS (SELECT 1 FROM mail_keys WHERE run = :run AND key = :key);

-- name: put_key
INSERT INTO mail_keys (run, key) VALUES (:run, :key);
