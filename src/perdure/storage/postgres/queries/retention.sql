-- Removing runs that have ended.

-- name: take_turn
INSERT INTO perdure.sweeper (one, holder, until, at, rules)
VALUES (1, %(holder)s::text, %(until)s::double precision, %(now)s::double precision, %(rules)s::bytea)
ON CONFLICT (one) DO UPDATE
SET holder = excluded.holder, until = excluded.until, at = excluded.at,
    rules = CASE WHEN length(excluded.rules) > 0 THEN excluded.rules ELSE sweeper.rules END
WHERE sweeper.holder = excluded.holder OR sweeper.until <= excluded.at
RETURNING plan;

-- name: sweeping
SELECT holder, until, at, rules FROM perdure.sweeper;

-- name: note_plan
UPDATE perdure.sweeper SET plan = %(plan)s::bytea WHERE holder = %(holder)s;

-- name: leave_turn
UPDATE perdure.sweeper SET until = 0 WHERE holder = %(holder)s;

-- name: ended_runs
SELECT r.run, r.id, r.workflow, r.status, r.ended_at, r.seq,
       CASE WHEN p.run IS NULL THEN NULL WHEN p.ended_at IS NOT NULL THEN 'ended' WHEN p.mail > 0 THEN 'mail'
            ELSE 'live' END,
       r.next IS NULL
FROM (
    SELECT run, id, workflow, status, ended_at, seq, parent, next FROM perdure.runs
    WHERE ended_at IS NOT NULL AND ended_at < %(before)s::double precision
      AND ended_at >= %(after)s::double precision
      AND (ended_at > %(after)s::double precision OR run > %(run)s::bigint)
    ORDER BY ended_at, run LIMIT %(limit)s::bigint
) AS r LEFT JOIN LATERAL (SELECT run, ended_at, mail FROM perdure.runs WHERE run = r.parent OFFSET 0) AS p ON true
ORDER BY r.ended_at, r.run;

-- name: orphans
-- From what is left of each to what it had started, and never through all that has ended.
SELECT r.run, r.id, r.workflow, r.status, r.ended_at, r.seq, m.archive
FROM perdure.remainders AS m CROSS JOIN LATERAL (SELECT * FROM perdure.runs WHERE parent = m.run OFFSET 0) AS r
WHERE r.ended_at IS NOT NULL AND r.next IS NULL LIMIT %(limit)s::bigint;

-- name: family
-- A run in all its generations, with everything that these have started. At most so many.
WITH RECURSIVE family (run) AS (
    SELECT g.run FROM perdure.runs AS g
    WHERE g.id = (SELECT r.id FROM perdure.runs AS r WHERE r.run = %(run)s::bigint)
    UNION
    SELECT c.run FROM family AS f CROSS JOIN LATERAL (SELECT run FROM perdure.runs WHERE parent = f.run OFFSET 0) AS c
)
SELECT coalesce(bool_or(r.ended_at IS NULL AND r.run <> %(run)s::bigint), false),
       coalesce(bool_or((SELECT h.run FROM perdure.budget_holds AS h WHERE h.run = r.run LIMIT 1) IS NOT NULL), false)
FROM (SELECT run FROM family LIMIT %(limit)s::bigint) AS f
     CROSS JOIN LATERAL (SELECT run, ended_at FROM perdure.runs WHERE run = f.run OFFSET 0) AS r;

-- name: forked
-- Whether a live run takes over from this one.
SELECT EXISTS (
    SELECT 1 FROM perdure.donors AS d
         CROSS JOIN LATERAL (SELECT 1 FROM perdure.runs WHERE run = d.run AND ended_at IS NULL OFFSET 0) AS r
    WHERE d.donor = (SELECT o.id FROM perdure.runs AS o WHERE o.run = %(run)s::bigint)
);

-- name: lock_removable
SELECT run FROM perdure.runs WHERE run = ANY (%(runs)b::bigint[]) ORDER BY run FOR UPDATE;

-- name: removable
SELECT id FROM perdure.runs AS r
WHERE run = %(run)s::bigint AND seq = %(seq)s::bigint AND (ended_at IS NULL) IS FALSE AND next IS NULL
  AND NOT EXISTS (SELECT 1 FROM perdure.arrivals AS a WHERE a.run = r.run);

-- name: earlier_generations
SELECT run FROM perdure.runs WHERE id = %(id)s AND next IS NOT NULL ORDER BY generation LIMIT %(limit)s::bigint;

-- name: drop_updates
DELETE FROM perdure.updates
WHERE run_id = %(id)s AND id IN (
    SELECT id FROM perdure.updates WHERE run_id = %(id)s LIMIT %(limit)s::bigint);

-- name: remain
INSERT INTO perdure.remainders (run, archive, since)
SELECT run, %(archive)s::text, %(now)s::double precision FROM unnest(%(runs)b::bigint[]) AS k (run);

-- name: remain_streams
INSERT INTO perdure.remaining_streams (stream) SELECT stream FROM perdure.streams WHERE id = %(id)s;

-- name: drop_streams
DELETE FROM perdure.streams WHERE id = %(id)s;

-- name: drop_id
DELETE FROM perdure.ids WHERE id = %(id)s AND run = %(run)s::bigint;

-- name: drop_dedup
DELETE FROM perdure.dedups AS d
WHERE d.holder = %(run)s::bigint
  AND d.dedup = (SELECT r.dedup FROM perdure.runs AS r WHERE r.run = %(run)s::bigint);

-- name: drop_accounts_of
DELETE FROM perdure.budget_accounts WHERE owner = %(id)s AND name = ANY (%(names)b::text[]);

-- name: remainders
-- Those of old partitions are given time: the partition may go as a whole.
SELECT run FROM perdure.remainders
WHERE NOT bare AND (run >= %(low)s::bigint OR since < %(before)s::double precision)
ORDER BY run LIMIT %(limit)s::bigint;

-- name: remaining_streams
SELECT stream FROM perdure.remaining_streams ORDER BY stream LIMIT %(limit)s::bigint;

-- name: heavy_events
SELECT run, seq, length(data) FROM perdure.events WHERE run = ANY (%(runs)b::bigint[])
ORDER BY run, seq LIMIT %(limit)s::bigint;

-- name: heavy_inbox
SELECT run, id, length(data) FROM perdure.inbox WHERE run = ANY (%(runs)b::bigint[])
ORDER BY run, id LIMIT %(limit)s::bigint;

-- name: heavy_items
SELECT stream, place, coalesce(length(data), 0) FROM perdure.stream_items
WHERE stream = ANY (%(runs)b::bigint[]) ORDER BY stream, place LIMIT %(limit)s::bigint;

-- name: drop_events
-- Of these runs, up to a place of the last of them.
DELETE FROM perdure.events
WHERE run = ANY (%(runs)b::bigint[]) AND (run, seq) <= (%(run)s::bigint, %(place)s::bigint);

-- name: drop_inbox_item
DELETE FROM perdure.inbox
WHERE run = ANY (%(runs)b::bigint[]) AND (run, id) <= (%(run)s::bigint, %(place)s::bigint);

-- name: drop_item
DELETE FROM perdure.stream_items
WHERE stream = ANY (%(runs)b::bigint[]) AND (stream, place) <= (%(run)s::bigint, %(place)s::bigint);

-- name: sweep_callbacks
-- So many rows of these runs; like all that follow. Those that were chosen are in a hash table, and none of others is read.
DELETE FROM perdure.callbacks WHERE run = ANY (%(runs)b::bigint[]) AND (token_hash IN (
    SELECT token_hash FROM perdure.callbacks WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_mail_keys
DELETE FROM perdure.mail_keys WHERE run = ANY (%(runs)b::bigint[]) AND ((run, key) IN (
    SELECT run, key FROM perdure.mail_keys WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_step_details
DELETE FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[]) AND ((run, step) IN (
    SELECT run, step FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_attributes
DELETE FROM perdure.attributes WHERE run = ANY (%(runs)b::bigint[]) AND ((run, name, place) IN (
    SELECT run, name, place FROM perdure.attributes WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_patches
DELETE FROM perdure.patches WHERE run = ANY (%(runs)b::bigint[]) AND ((run, change) IN (
    SELECT run, change FROM perdure.patches WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_publication_waits
DELETE FROM perdure.publication_waits WHERE run = ANY (%(runs)b::bigint[]) AND ((run, op) IN (
    SELECT run, op FROM perdure.publication_waits WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_usage
DELETE FROM perdure.usage WHERE run = ANY (%(runs)b::bigint[]) AND ((run, id) IN (
    SELECT run, id FROM perdure.usage WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_budget_waits
DELETE FROM perdure.budget_waits WHERE run = ANY (%(runs)b::bigint[]) AND ((run, step) IN (
    SELECT run, step FROM perdure.budget_waits WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: sweep_stream_writers
DELETE FROM perdure.stream_writers WHERE run = ANY (%(runs)b::bigint[]) AND ((run, step, stream) IN (
    SELECT run, step, stream FROM perdure.stream_writers WHERE run = ANY (%(runs)b::bigint[]) LIMIT %(limit)s::bigint)) IS TRUE;

-- name: bare
UPDATE perdure.remainders SET bare = true WHERE run = ANY (%(runs)b::bigint[]);

-- name: orphan_live
-- Runs that go on without the one that started them.
UPDATE perdure.runs SET parent = NULL, parent_op = NULL
WHERE ended_at IS NULL AND parent = ANY (%(runs)b::bigint[]);

-- name: forget_remaining_streams
DELETE FROM perdure.remaining_streams WHERE stream = ANY (%(streams)b::bigint[]);

-- name: forget_remainders
DELETE FROM perdure.remainders WHERE run = ANY (ARRAY(
    SELECT m.run FROM perdure.remainders AS m
    WHERE m.bare AND (SELECT r.run FROM perdure.runs AS r WHERE r.parent = m.run LIMIT 1) IS NULL
    LIMIT %(limit)s::bigint));
