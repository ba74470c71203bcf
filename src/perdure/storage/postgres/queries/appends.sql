-- Appending to histories. A batch is bound as arrays, one for each column: one statement and one round trip,
-- whatever the number of runs.

-- part: moved_on
-- What each append does to its run's row.
    SET seq = (%(seqs)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])],
        chain = coalesce((%(chains)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])], r.chain),
        attempt = (%(attempts)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])],
        updated_at = (%(nows)b::double precision[])[width_bucket(r.run, %(runs)b::bigint[])],
        recoveries = CASE
            WHEN (%(seqs)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])] > r.seq THEN 0
            ELSE r.recoveries END

-- part: written
-- Its events, if it has passed. They are looked up in a hash table, as no join is here.
    INSERT INTO perdure.events (run, seq, link, data)
    SELECT e.run, e.seq, e.link, e.data
    FROM unnest(
        %(event_runs)b::bigint[], %(event_seqs)b::bigint[], %(event_links)b::bigint[], %(event_data)b::bytea[]
    ) AS e (run, seq, link, data)
    WHERE (e.run IN (SELECT run FROM passed)) IS TRUE

-- name: append_many
-- The compare-and-set that locks the rows of many different runs, fences stale drivers off, moves the runs on and
-- writes their events. Tells which runs passed. A repeat of an append that is there already doesn't pass either;
-- it recognises itself by `standing`.
--
-- The runs come in order, so width_bucket finds each one's place in all the arrays. Nothing is joined and no index but
-- the runs' keys fits, so there is one plan only, whatever statistics say. A join was turned round once they said that
-- nobody owns a run, as they do after a quiet minute: all runs of all workers times all of the batch, seconds for each.
WITH passed AS (
    UPDATE perdure.runs AS r
    -- with: moved_on
    WHERE r.run = ANY (%(runs)b::bigint[])
      AND r.seq = (%(expected)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
      AND r.epoch = (%(epochs)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
      AND (r.owner IS NULL) IS FALSE
      AND r.attempt IS DISTINCT FROM (%(attempts)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
    RETURNING r.run
), written AS (
    -- with: written
)
SELECT run FROM passed;

-- name: end_many
-- The same for a batch in which runs end, each status being NULL or final. A run that has mail or live children doesn't
-- pass: its end has consequences. Nobody else can give a run children, and its mail is counted in its row.
WITH passed AS (
    UPDATE perdure.runs AS r
    -- with: moved_on
        , status = coalesce((%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])], r.status),
        reason = CASE
            WHEN (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL THEN r.reason
            ELSE (%(reasons)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] END,
        block_code = CASE
            WHEN (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL THEN r.block_code
            ELSE (%(codes)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] END,
        ended_at = CASE
            WHEN (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL THEN r.ended_at
            ELSE (%(nows)b::double precision[])[width_bucket(r.run, %(runs)b::bigint[])] END,
        wake_at = CASE WHEN (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL THEN r.wake_at END,
        owner = CASE WHEN (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL THEN r.owner END
    WHERE r.run = ANY (%(runs)b::bigint[])
      AND r.seq = (%(expected)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
      AND r.epoch = (%(epochs)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
      AND (r.owner IS NULL) IS FALSE
      AND r.attempt IS DISTINCT FROM (%(attempts)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
      AND ((%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])] IS NULL OR (r.mail = 0 AND (
          SELECT c.run FROM perdure.runs AS c WHERE c.parent = r.run AND c.ended_at IS NULL LIMIT 1
      ) IS NULL))
    RETURNING r.run, r.ended_at
), written AS (
    -- with: written
), forgotten AS (
    DELETE FROM perdure.step_details WHERE run = ANY (ARRAY(SELECT run FROM passed WHERE ended_at IS NOT NULL))
)
SELECT run FROM passed;

-- name: append_one
-- The same for one event of one run; for the quick way.
WITH passed AS (
    UPDATE perdure.runs
    SET seq = seq + 1, chain = %(chain)s, attempt = %(attempt)s, updated_at = %(now)s, recoveries = 0
    WHERE run = %(run)s AND seq = %(expected)s AND epoch = %(epoch)s AND (owner IS NULL) IS FALSE
    RETURNING run, seq, chain
)
INSERT INTO perdure.events (run, seq, link, data) SELECT run, seq, chain, %(data)s FROM passed;

-- name: lock_families
-- Runs that are appended to, and the parents of those that tell them of their end. Everybody locks ancestors first,
-- which are the older ones: else a child and its parent that end at the same time would lock each other out.
SELECT r.run FROM perdure.runs AS r
WHERE r.run = ANY (%(runs)b::bigint[] || ARRAY(
    SELECT c.parent FROM perdure.runs AS c WHERE c.run = ANY (%(telling)b::bigint[])
))
ORDER BY r.run
FOR UPDATE;

-- name: standing
-- What refused appends are told, and by which repeated ones recognise themselves.
SELECT run, seq, epoch, attempt, owner FROM perdure.runs WHERE run = ANY (%(runs)b::bigint[]);

-- name: owner_of
SELECT owner FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: insert_events
-- Those that no driver appends. What a damaged history has there goes.
INSERT INTO perdure.events (run, seq, link, data)
SELECT * FROM unnest(%(runs)b::bigint[], %(seqs)b::bigint[], %(links)b::bigint[], %(data)b::bytea[])
ON CONFLICT (run, seq) DO UPDATE SET link = excluded.link, data = excluded.data;

-- name: set_chains
-- Of runs to which the store has appended by itself. They come in order.
UPDATE perdure.runs AS r SET chain = (%(chains)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])]
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: take_mail
-- Inbox items that became events.
DELETE FROM perdure.inbox WHERE run = %(run)s::bigint AND id = ANY (%(ids)b::bigint[]);

-- name: less_mail
UPDATE perdure.runs SET mail = mail - %(taken)s::bigint WHERE run = %(run)s::bigint;

-- name: set_statuses
-- Of runs that go on. They come in order.
UPDATE perdure.runs AS r
SET status = (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])],
    reason = (%(reasons)b::text[])[width_bucket(r.run, %(runs)b::bigint[])],
    block_code = (%(codes)b::text[])[width_bucket(r.run, %(runs)b::bigint[])]
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: release
-- Give a run up. Mail that came in meanwhile makes it due at once, unless it is held. One that its driver's
-- code couldn't drive is due at once if a worker with other code is there, and so is one that was resumed while
-- its driver made it rest, and one that is full and has mail that may be a cancellation.
UPDATE perdure.runs AS r
SET owner = NULL, recoveries = 0,
    status = CASE WHEN status = 'paused' AND paused IS NULL THEN 'waiting' ELSE status END,
    reason = CASE WHEN status = 'paused' AND paused IS NULL THEN NULL ELSE reason END,
    wake_at = CASE
        WHEN status = 'paused' AND paused IS NULL THEN %(now)s::double precision
        WHEN mail > 0 AND status <> 'paused' AND (status <> 'blocked' OR block_code = 'step')
        THEN %(now)s::double precision
        WHEN mail > 0 AND status = 'blocked' AND block_code = 'limit' AND EXISTS (
            SELECT 1 FROM perdure.inbox AS i WHERE i.run = r.run AND i.kind = 'control'
        ) THEN %(now)s::double precision
        WHEN status = 'blocked' AND block_code = 'code' AND misfits IS NOT NULL AND EXISTS (
            SELECT 1 FROM perdure.workers AS w
            WHERE w.code <> ALL (r.misfits) AND (NOT r.pinned OR r.version = w.version)
              AND r.queue = ANY (w.queues) AND r.workflow = ANY (w.workflows)
        ) THEN %(now)s::double precision
        ELSE %(wake_at)s::double precision END
WHERE run = %(run)s::bigint;

-- name: finish_many
-- The end of runs: nobody drives them, nothing wakes them. Of their mail the messages stay, as undelivered. They come in order.
UPDATE perdure.runs AS r
SET status = (%(statuses)b::text[])[width_bucket(r.run, %(runs)b::bigint[])],
    reason = (%(reasons)b::text[])[width_bucket(r.run, %(runs)b::bigint[])],
    block_code = (%(codes)b::text[])[width_bucket(r.run, %(runs)b::bigint[])],
    ended_at = (%(nows)b::double precision[])[width_bucket(r.run, %(runs)b::bigint[])],
    owner = NULL, wake_at = NULL,
    mail = CASE WHEN r.mail = 0 THEN 0
           ELSE (SELECT count(*) FROM perdure.inbox AS i WHERE i.run = r.run AND i.kind <> 'control') END
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: terminate
-- A run's end from outside: one event more, and an epoch in which its driver can't write.
UPDATE perdure.runs AS r
SET status = 'terminated', reason = NULL, block_code = NULL, ended_at = %(now)s::double precision,
    updated_at = %(now)s::double precision, owner = NULL, wake_at = NULL, seq = seq + 1, epoch = epoch + 1,
    mail = CASE WHEN r.mail = 0 THEN 0
           ELSE (SELECT count(*) FROM perdure.inbox AS i WHERE i.run = r.run AND i.kind <> 'control') END
WHERE run = %(run)s::bigint AND ended_at IS NULL
RETURNING seq, chain, parent, parent_op;

-- name: drop_inboxes
DELETE FROM perdure.inbox WHERE run = ANY (%(runs)b::bigint[]) AND kind = 'control';

-- name: live_parents
-- Which of these runs have children that haven't ended.
SELECT DISTINCT parent FROM perdure.runs WHERE parent = ANY (%(runs)b::bigint[]) AND ended_at IS NULL;

-- name: parent_of
SELECT CASE WHEN parent_op IS NULL THEN NULL ELSE parent END FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: live_children
SELECT c.run, c.on_parent_close, (SELECT p.id FROM perdure.runs AS p WHERE p.run = c.parent)
FROM perdure.runs AS c
WHERE c.parent = %(parent)s::bigint AND c.ended_at IS NULL
ORDER BY c.run + 0;  -- an order that no index has
