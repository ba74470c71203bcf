-- Generations: the runs that follow each other under one id.

-- name: make_way
-- An ended run gives its id up to the one that follows it. Nothing happens if another has followed already.
UPDATE perdure.runs SET next = %(next)s::bigint
WHERE run = %(run)s::bigint AND (id = %(id)s) IS TRUE  -- or all generations of the id might be looked at
  AND next IS NULL AND (ended_at IS NULL) IS FALSE;

-- name: pass_id
UPDATE perdure.ids SET run = %(next)s::bigint WHERE id = %(id)s AND run = %(run)s::bigint;

-- name: ties
-- What a run is to whoever has started it, and to its queue.
SELECT id, fingerprint, parent, parent_op, on_parent_close, key, priority, dedup, slot FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: successor
SELECT n.run, n.epoch, n.owner FROM perdure.runs AS n
WHERE n.run = (SELECT r.next FROM perdure.runs AS r WHERE r.run = %(run)s::bigint);

-- name: generation
-- An earlier generation, or the newest one.
SELECT r.run, r.id, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.epoch, r.owner, r.created_at,
       r.updated_at, r.started_at, r.ended_at, r.wake_at, r.mail, r.recoveries, r.semantics, r.reason,
       r.block_code, r.parent, (SELECT p.id FROM perdure.runs AS p WHERE p.run = r.parent), r.parent_op,
       r.on_parent_close, r.generation, r.next, r.version, r.pinned, r.chain, r.key, r.priority
FROM perdure.runs AS r
WHERE r.id = %(id)s AND r.generation = %(generation)s::bigint
ORDER BY r.run + 0 LIMIT 1;  -- an order that no index has

-- name: take_inbox
-- Empty a run's inbox, and tell what was in it.
DELETE FROM perdure.inbox WHERE run = %(run)s::bigint RETURNING id, run, data, kind;

-- name: inherit_keys
-- A repeat of mail that an earlier generation had is recognised by the later ones, too.
UPDATE perdure.mail_keys SET run = %(new)s::bigint WHERE run = %(run)s::bigint;

-- name: inherit_updates
-- The new generation is to handle what the old one hasn't accepted.
UPDATE perdure.updates SET run = %(new)s::bigint
WHERE run = %(run)s::bigint AND state = 'requested';
