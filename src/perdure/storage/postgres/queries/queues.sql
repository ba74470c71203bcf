-- Queues with limits: who stands in line, who holds a slot, whose turn it is.

-- name: queue_states
SELECT name, limited, paused, draining, settings, arrival, turn
FROM perdure.queues WHERE name = ANY (%(names)b::text[]) ORDER BY name;

-- name: lock_queues
-- Who admits somebody has the queue to itself: nobody else counts or takes slots meanwhile.
SELECT name, limited, paused, draining, settings, arrival, turn
FROM perdure.queues WHERE name = ANY (%(names)b::text[]) ORDER BY name
FOR UPDATE;

-- name: lines
-- Which of these queues have somebody in line that this worker can drive, or whose time has come.
SELECT DISTINCT q.name
FROM unnest(%(queues)b::text[]) AS q (name) CROSS JOIN unnest(%(workflows)b::text[]) AS w (name)
     CROSS JOIN LATERAL (
    (SELECT run FROM perdure.runs
     WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = q.name AND workflow = w.name
       AND rank > -2000000000
     ORDER BY rank DESC LIMIT 1)
    UNION ALL
    (SELECT run FROM perdure.runs
     WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = q.name AND workflow = w.name
       AND rank = -2000000000 AND lane = '' AND wake_at <= %(now)s::double precision
     ORDER BY wake_at LIMIT 1)
) AS n;

-- name: enter_lines
-- Those whose time has come get their place in line.
UPDATE perdure.runs AS r
SET lane = CASE WHEN q.keyed THEN coalesce(r.key, '') ELSE '' END,
    rank = CASE WHEN q.ranked THEN r.priority ELSE 0 END
FROM perdure.queues AS q
WHERE q.name = r.queue AND r.run = ANY (ARRAY(
    SELECT d.run FROM perdure.runs AS d
    WHERE d.lane IS NOT NULL AND d.wake_at IS NOT NULL AND d.queue = ANY (%(queues)b::text[])
      AND d.workflow = ANY (%(workflows)b::text[]) AND d.rank = -2000000000 AND d.lane = ''
      AND d.wake_at <= %(now)s::double precision
    LIMIT %(limit)s::bigint
    FOR UPDATE OF d SKIP LOCKED
));

-- name: next_in_lines
-- When the next one's time comes.
SELECT min(n.wake_at)
FROM unnest(%(queues)b::text[]) AS q (name) CROSS JOIN unnest(%(workflows)b::text[]) AS w (name)
     CROSS JOIN LATERAL (
    SELECT wake_at FROM perdure.runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = q.name AND workflow = w.name
      AND rank = -2000000000 AND lane = ''
    ORDER BY wake_at LIMIT 1
) AS n;

-- name: line
-- The first of a line with one lane.
SELECT n.run
FROM unnest(%(workflows)b::text[]) AS w (name) CROSS JOIN LATERAL (
    SELECT run, rank, wake_at FROM perdure.runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = w.name
      AND rank > -2000000000
    ORDER BY rank DESC, lane, wake_at, run LIMIT %(limit)s::bigint
) AS n
ORDER BY n.rank DESC, n.wake_at, n.run
LIMIT %(limit)s::bigint;

-- name: line_levels
-- The ranks in a line, the highest first: from one to the next in the index.
WITH RECURSIVE level (workflow, rank) AS (
    SELECT w.name, n.rank
    FROM unnest(%(workflows)b::text[]) AS w (name) CROSS JOIN LATERAL (
        SELECT rank FROM perdure.runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = w.name
          AND rank > -2000000000
        ORDER BY rank DESC LIMIT 1
    ) AS n
    UNION ALL
    SELECT level.workflow, n.rank
    FROM level CROSS JOIN LATERAL (
        SELECT rank FROM perdure.runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = level.workflow
          AND rank < level.rank AND rank > -2000000000
        ORDER BY rank DESC LIMIT 1
    ) AS n
), found (workflow, rank) AS (
    SELECT workflow, rank FROM level LIMIT %(limit)s::bigint
)
SELECT rank, workflow FROM found ORDER BY rank DESC, workflow;

-- name: line_lanes
-- The lanes of a rank after another lane, each with when its head was due: from one to the next in the index.
WITH RECURSIVE head (lane, wake_at) AS (
    (SELECT lane, wake_at FROM perdure.runs
     WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = %(workflow)s
       AND rank = %(rank)s::bigint AND lane > %(after)s
     ORDER BY lane, wake_at LIMIT 1)
    UNION ALL
    SELECT n.lane, n.wake_at
    FROM head CROSS JOIN LATERAL (
        SELECT lane, wake_at FROM perdure.runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = %(workflow)s
          AND rank = %(rank)s::bigint AND lane > head.lane
        ORDER BY lane, wake_at LIMIT 1
    ) AS n
)
SELECT lane, wake_at FROM head LIMIT %(limit)s::bigint;

-- name: line_lanes_upto
-- The same from the first lane up to one.
WITH RECURSIVE head (lane, wake_at) AS (
    (SELECT lane, wake_at FROM perdure.runs
     WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = %(workflow)s
       AND rank = %(rank)s::bigint AND lane <= %(upto)s
     ORDER BY lane, wake_at LIMIT 1)
    UNION ALL
    SELECT n.lane, n.wake_at
    FROM head CROSS JOIN LATERAL (
        SELECT lane, wake_at FROM perdure.runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = %(workflow)s
          AND rank = %(rank)s::bigint AND lane > head.lane AND lane <= %(upto)s
        ORDER BY lane, wake_at LIMIT 1
    ) AS n
)
SELECT lane, wake_at FROM head LIMIT %(limit)s::bigint;

-- name: line_firsts
-- The first so many of each of some lanes.
SELECT n.run, l.lane
FROM unnest(%(lanes)b::text[], %(numbers)b::bigint[]) WITH ORDINALITY AS l (lane, number, place)
     CROSS JOIN LATERAL (
    SELECT run, wake_at FROM perdure.runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND workflow = %(workflow)s
      AND rank = %(rank)s::bigint AND lane = l.lane
    ORDER BY wake_at, run LIMIT l.number
) AS n
ORDER BY l.place, n.wake_at, n.run;

-- name: lock_in_line
-- Those of them that are still in line. Others that somebody holds just now have to wait for another claim.
SELECT r.run FROM perdure.runs AS r
WHERE r.run = ANY (%(runs)b::bigint[])
  AND (r.lane IS NULL) IS FALSE AND (r.wake_at IS NULL) IS FALSE AND r.owner IS NULL  -- so that no other index fits
FOR UPDATE OF r SKIP LOCKED;

-- name: admit
-- As `claim`, and it has its slot.
UPDATE perdure.runs
SET version = CASE WHEN pinned AND version IS NOT NULL THEN version
              ELSE (SELECT w.version FROM perdure.workers AS w WHERE w.id = %(worker)s::bigint) END,
    owner = %(worker)s::bigint, epoch = epoch + 1, status = 'running', reason = NULL, block_code = NULL,
    wake_at = NULL, updated_at = %(now)s::double precision,
    started_at = coalesce(started_at, %(now)s::double precision), slot = true, lane = NULL, rank = NULL
WHERE run = ANY (%(runs)b::bigint[]);

-- name: admitted
UPDATE perdure.queues SET arrival = %(arrival)s::bigint, turn = %(turn)s WHERE name = %(name)s;

-- name: slots
-- How many slots are held, by key.
SELECT coalesce(key, ''), count(*) FROM perdure.runs
WHERE queue = %(queue)s AND slot AND ended_at IS NULL GROUP BY key;

-- name: slots_here
-- How many runs of a queue a worker drives.
SELECT count(*) FROM perdure.runs WHERE owner = %(worker)s::bigint AND queue = %(queue)s;

-- name: queue
SELECT name, defined, overrides, settings, limited, keyed, ranked, paused, draining, arrival, turn, changed_at
FROM perdure.queues WHERE name = %(name)s;

-- name: queues
SELECT name, defined, overrides, settings, limited, keyed, ranked, paused, draining, arrival, turn, changed_at
FROM perdure.queues ORDER BY name;

-- name: make_queue
-- So that there is a row to lock.
INSERT INTO perdure.queues (name, overrides, settings, limited, keyed, ranked, changed_at)
VALUES (%(name)s, '{}', '{}', false, false, false, %(changed_at)s::double precision)
ON CONFLICT (name) DO NOTHING;

-- name: lock_queue
SELECT name, defined, overrides, settings, limited, keyed, ranked, paused, draining, arrival, turn, changed_at
FROM perdure.queues WHERE name = %(name)s
FOR UPDATE;

-- name: set_queue
UPDATE perdure.queues
SET defined = %(defined)s::text, overrides = %(overrides)s, settings = %(settings)s, limited = %(limited)s::boolean,
    keyed = %(keyed)s::boolean, ranked = %(ranked)s::boolean, paused = %(paused)s::boolean,
    draining = %(draining)s::boolean, changed_at = %(changed_at)s::double precision
WHERE name = %(name)s;

-- name: limit_queue
-- A queue has limits from now on: what goes on there holds slots, what hasn't begun stands in line.
UPDATE perdure.runs
SET slot = started_at IS NOT NULL,
    lane = CASE WHEN started_at IS NOT NULL THEN NULL
                WHEN %(keyed)s::boolean AND coalesce(wake_at, paused, 0.0) <= %(now)s::double precision
                THEN coalesce(key, '') ELSE '' END,
    rank = CASE WHEN started_at IS NOT NULL THEN NULL
                WHEN coalesce(wake_at, paused, 0.0) > %(now)s::double precision THEN -2000000000
                WHEN %(ranked)s::boolean THEN priority ELSE 0 END
WHERE queue = %(name)s AND ended_at IS NULL;

-- name: rank_line
-- The order of a line has changed.
UPDATE perdure.runs
SET lane = CASE WHEN %(keyed)s::boolean THEN coalesce(key, '') ELSE '' END,
    rank = CASE WHEN %(ranked)s::boolean THEN priority ELSE 0 END
WHERE queue = %(name)s AND lane IS NOT NULL AND ended_at IS NULL AND rank > -2000000000;

-- name: put_in_lines
-- Runs that were moved here stand in line, or hold a slot, as the queues here would have it.
UPDATE perdure.runs AS r
SET slot = r.started_at IS NOT NULL,
    lane = CASE WHEN r.started_at IS NOT NULL THEN NULL
                WHEN q.keyed AND coalesce(r.wake_at, r.paused, 0.0) <= %(now)s::double precision
                THEN coalesce(r.key, '') ELSE '' END,
    rank = CASE WHEN r.started_at IS NOT NULL THEN NULL
                WHEN coalesce(r.wake_at, r.paused, 0.0) > %(now)s::double precision THEN -2000000000
                WHEN q.ranked THEN r.priority ELSE 0 END
FROM perdure.queues AS q
WHERE q.name = r.queue AND q.limited AND r.ended_at IS NULL AND r.run = ANY (%(runs)b::bigint[]);

-- name: queue_counts
-- Of the queues with limits: how many stand in line, how many have their time to come, since when the first waits.
SELECT queue, count(*) FILTER (WHERE rank > -2000000000), count(*) FILTER (WHERE rank = -2000000000),
       min(wake_at) FILTER (WHERE rank > -2000000000)
FROM perdure.runs WHERE lane IS NOT NULL AND wake_at IS NOT NULL GROUP BY queue;

-- name: slot_counts
SELECT queue, count(*) FROM perdure.runs WHERE slot AND ended_at IS NULL GROUP BY queue;

-- name: due_counts
-- Of the others: what is due or will be.
SELECT queue, count(*) FILTER (WHERE wake_at <= %(now)s::double precision),
       count(*) FILTER (WHERE wake_at > %(now)s::double precision), min(wake_at)
FROM perdure.runs WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL GROUP BY queue;

-- name: owned_counts
SELECT queue, count(*) FROM perdure.runs WHERE owner IS NOT NULL GROUP BY queue;

-- name: standing_of
SELECT queue, workflow, key, priority, dedup, slot, lane, rank, wake_at, parent
FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: ahead
-- How many stand before a run, counted so far and no further. Of other keys those count that are of a higher rank.
SELECT count(*) FROM (
    SELECT 1 FROM perdure.runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = %(queue)s AND rank > -2000000000
      AND (rank > %(rank)s::bigint OR (rank = %(rank)s::bigint AND lane = %(lane)s
           AND (wake_at, run) < (%(wake_at)s::double precision, %(run)s::bigint)))
    LIMIT %(limit)s::bigint
) AS before;

-- name: slot_holders
SELECT id FROM perdure.runs
WHERE queue = %(queue)s AND slot AND ended_at IS NULL AND (%(key)s::text IS NULL OR key = %(key)s::text)
LIMIT %(limit)s::bigint;

-- name: holds_slot
SELECT slot AND ended_at IS NULL AND queue = %(queue)s FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: make_dedup
-- So that there is a row to lock.
INSERT INTO perdure.dedups (dedup, holder) VALUES (%(dedup)s, 0) ON CONFLICT (dedup) DO NOTHING;

-- name: lock_dedup
SELECT holder FROM perdure.dedups WHERE dedup = %(dedup)s FOR UPDATE;

-- name: holds_dedup
-- Whether the holder of a dedup is live, and whether it was driven.
SELECT started_at IS NOT NULL FROM perdure.runs WHERE run = %(run)s::bigint AND ended_at IS NULL;

-- name: dedup_holder
SELECT holder FROM perdure.dedups WHERE dedup = %(dedup)s;

-- name: dedup_of
SELECT dedup FROM perdure.runs WHERE run = %(run)s::bigint;

-- name: take_dedup
INSERT INTO perdure.dedups (dedup, holder) VALUES (%(dedup)s, %(holder)s::bigint)
ON CONFLICT (dedup) DO UPDATE SET holder = excluded.holder;

-- name: free_dedup
UPDATE perdure.runs SET dedup = NULL WHERE run = %(run)s::bigint;

-- name: forget_dedups
-- Those of runs that have ended.
DELETE FROM perdure.dedups AS d
WHERE EXISTS (SELECT 1 FROM perdure.runs AS r WHERE r.run = d.holder AND r.ended_at IS NOT NULL);

-- name: replace_unbegun
-- A run that nobody has driven yet starts later, and from other input.
UPDATE perdure.runs
SET fingerprint = %(fingerprint)s::bytea, updated_at = %(now)s::double precision, key = %(key)s::text,
    priority = %(priority)s::bigint,
    wake_at = CASE WHEN wake_at IS NOT NULL
              THEN greatest(wake_at, least(%(wake_at)s::double precision, created_at + %(at_most)s::double precision)) END,
    paused = CASE WHEN paused IS NOT NULL
              THEN greatest(paused, least(%(wake_at)s::double precision, created_at + %(at_most)s::double precision)) END,
    lane = CASE WHEN lane IS NULL THEN NULL ELSE '' END, rank = CASE WHEN lane IS NULL THEN NULL ELSE -2000000000 END
WHERE run = %(run)s::bigint AND workflow = %(workflow)s AND started_at IS NULL AND owner IS NULL
  AND ended_at IS NULL;

-- name: replace_first_event
UPDATE perdure.events SET data = %(data)s::bytea, link = %(link)s::bigint WHERE run = %(run)s::bigint AND seq = 1;

-- name: known_as
SELECT id, generation FROM perdure.runs WHERE run = %(run)s::bigint;
