-- Appending to histories. A batch is bound as arrays, one for each column: one statement and one round trip,
-- whatever the number of runs.

-- name: append_many
-- The compare-and-set that locks the rows of many different runs, fences stale drivers off, moves the runs on and
-- writes their events. Tells which runs passed. A repeat of an append that is there already doesn't pass either;
-- it recognises itself by `standing`.
WITH passed AS (
    UPDATE perdure.runs AS r
    SET seq = a.seq, chain = coalesce(a.chain, r.chain), attempt = a.attempt, updated_at = a.now,
        recoveries = CASE WHEN a.seq > a.expected THEN 0 ELSE r.recoveries END
    FROM unnest(
        %(runs)b::bigint[], %(expected)b::bigint[], %(epochs)b::bigint[], %(attempts)b::bigint[], %(seqs)b::bigint[],
        %(nows)b::double precision[], %(chains)b::bigint[]
    ) AS a (run, expected, epoch, attempt, seq, now, chain)
    WHERE r.run = a.run AND r.seq = a.expected AND r.epoch = a.epoch AND r.owner IS NOT NULL
      AND r.attempt IS DISTINCT FROM a.attempt
    RETURNING r.run
), written AS (
    INSERT INTO perdure.events (run, seq, link, data)
    SELECT e.run, e.seq, e.link, e.data
    FROM unnest(
        %(event_runs)b::bigint[], %(event_seqs)b::bigint[], %(event_links)b::bigint[], %(event_data)b::bytea[]
    ) AS e (run, seq, link, data)
    WHERE (e.run IN (SELECT run FROM passed)) IS TRUE  -- looked up in a hash table, as no join is here
)
SELECT run FROM passed;

-- name: end_many
-- The same for a batch in which runs end, each status being NULL or final. A run that has mail or live children doesn't
-- pass: its end has consequences. Nobody else can give a run children, and its mail is counted in its row.
WITH passed AS (
    UPDATE perdure.runs AS r
    SET seq = a.seq, chain = coalesce(a.chain, r.chain), attempt = a.attempt, updated_at = a.now,
        recoveries = CASE WHEN a.seq > a.expected THEN 0 ELSE r.recoveries END,
        status = coalesce(a.status, r.status),
        reason = CASE WHEN a.status IS NULL THEN r.reason ELSE a.reason END,
        block_code = CASE WHEN a.status IS NULL THEN r.block_code ELSE a.code END,
        ended_at = CASE WHEN a.status IS NULL THEN r.ended_at ELSE a.now END,
        wake_at = CASE WHEN a.status IS NULL THEN r.wake_at END,
        owner = CASE WHEN a.status IS NULL THEN r.owner END
    FROM unnest(
        %(runs)b::bigint[], %(expected)b::bigint[], %(epochs)b::bigint[], %(attempts)b::bigint[], %(seqs)b::bigint[],
        %(nows)b::double precision[], %(statuses)b::text[], %(reasons)b::text[], %(codes)b::text[],
        %(chains)b::bigint[]
    ) AS a (run, expected, epoch, attempt, seq, now, status, reason, code, chain)
    WHERE r.run = a.run AND r.seq = a.expected AND r.epoch = a.epoch AND r.owner IS NOT NULL
      AND r.attempt IS DISTINCT FROM a.attempt
      AND (a.status IS NULL OR (r.mail = 0 AND NOT EXISTS (
          SELECT 1 FROM perdure.runs AS c WHERE c.parent = r.run AND c.ended_at IS NULL
      )))
    RETURNING r.run, a.status
), written AS (
    INSERT INTO perdure.events (run, seq, link, data)
    SELECT e.run, e.seq, e.link, e.data
    FROM unnest(
        %(event_runs)b::bigint[], %(event_seqs)b::bigint[], %(event_links)b::bigint[], %(event_data)b::bytea[]
    ) AS e (run, seq, link, data)
    WHERE (e.run IN (SELECT run FROM passed)) IS TRUE  -- looked up in a hash table, as no join is here
), forgotten AS (
    DELETE FROM perdure.step_details WHERE run IN (SELECT run FROM passed WHERE status IS NOT NULL)
)
SELECT run FROM passed;

-- name: append_one
-- The same for one event of one run; for the quick way.
WITH passed AS (
    UPDATE perdure.runs
    SET seq = seq + 1, chain = %(chain)s, attempt = %(attempt)s, updated_at = %(now)s, recoveries = 0
    WHERE run = %(run)s AND seq = %(expected)s AND epoch = %(epoch)s AND owner IS NOT NULL
    RETURNING run, seq, chain
)
INSERT INTO perdure.events (run, seq, link, data) SELECT run, seq, chain, %(data)s FROM passed;

-- name: lock_families
-- Runs that are appended to, and the parents of those that tell them of their end. Everybody locks ancestors first,
-- which are the older ones: else a child and its parent that end at the same time would lock each other out.
SELECT r.run FROM perdure.runs AS r
WHERE r.run = ANY (%(runs)b::bigint[])
   OR r.run IN (SELECT c.parent FROM perdure.runs AS c WHERE c.run = ANY (%(telling)b::bigint[]))
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
-- Of runs to which the store has appended by itself.
UPDATE perdure.runs AS r SET chain = a.chain
FROM unnest(%(runs)b::bigint[], %(chains)b::bigint[]) AS a (run, chain)
WHERE r.run = a.run;

-- name: take_mail
-- Inbox items that became events.
DELETE FROM perdure.inbox WHERE run = %(run)s::bigint AND id = ANY (%(ids)b::bigint[]);

-- name: less_mail
UPDATE perdure.runs SET mail = mail - %(taken)s::bigint WHERE run = %(run)s::bigint;

-- name: set_status
UPDATE perdure.runs SET status = %(status)s, reason = %(reason)s::text, block_code = %(block_code)s::text
WHERE run = %(run)s::bigint;

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
-- The end of runs: nobody drives them, nothing wakes them. Of their mail the messages stay, as undelivered.
UPDATE perdure.runs AS r
SET status = a.status, reason = a.reason, block_code = a.block_code, ended_at = a.now,
    owner = NULL, wake_at = NULL,
    mail = CASE WHEN r.mail = 0 THEN 0
           ELSE (SELECT count(*) FROM perdure.inbox AS i WHERE i.run = r.run AND i.kind <> 'control') END
FROM unnest(
    %(runs)b::bigint[], %(statuses)b::text[], %(reasons)b::text[], %(codes)b::text[], %(nows)b::double precision[]
) AS a (run, status, reason, block_code, now)
WHERE r.run = a.run;

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
SELECT c.run, c.on_parent_close, p.id
FROM perdure.runs AS c JOIN perdure.runs AS p ON p.run = c.parent
WHERE c.parent = %(parent)s::bigint AND c.ended_at IS NULL
ORDER BY c.run;
