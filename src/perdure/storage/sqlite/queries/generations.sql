-- Generations: the runs that follow each other under one id.

-- name: make_way
-- An ended run gives its id up to the one that follows it. Nothing happens if another has followed already.
UPDATE runs SET next = 0 WHERE run = :run AND id = :id AND next IS NULL AND ended_at IS NOT NULL;

-- name: followed_by
UPDATE runs SET next = :next WHERE run = :run;

-- name: ties
-- What a run is to whoever has started it, and to its queue.
SELECT id, fingerprint, parent, parent_op, on_parent_close, key, priority, dedup, slot FROM runs WHERE run = :run;

-- name: successor
SELECT n.run, n.epoch, n.owner FROM runs AS r CROSS JOIN runs AS n ON n.run = r.next WHERE r.run = :run;

-- name: generation
-- An earlier generation, or the newest one.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, p.id, r.parent_op, r.on_parent_close, r.generation,
       r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM (
    SELECT run FROM runs WHERE id = :id AND generation = :generation AND next IS NOT NULL
    UNION ALL
    SELECT run FROM runs WHERE id = :id AND generation = :generation AND next IS NULL
) AS g CROSS JOIN runs AS r ON r.run = g.run LEFT JOIN runs AS p ON p.run = r.parent;

-- name: empty_inbox
DELETE FROM inbox WHERE run = :run;

-- name: inherit_keys
-- A repeat of mail that an earlier generation had is recognised by the later ones, too.
UPDATE mail_keys SET run = :new WHERE run = :run;

-- name: inherit_updates
-- The new generation is to handle what the old one hasn't accepted.
UPDATE updates SET run = :new
WHERE run = :run AND state = 'requested';
