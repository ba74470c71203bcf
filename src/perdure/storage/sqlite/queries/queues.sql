-- Queues with limits: who stands in line, who holds a slot, whose turn it is.

-- name: lines
-- Which of these queues have somebody in line that this worker can drive.
SELECT q.value
FROM json_each(:queues) AS q
WHERE EXISTS (
    SELECT 1
    FROM json_each(:workflows) AS w CROSS JOIN runs AS r ON r.queue = q.value AND r.workflow = w.value
    WHERE r.lane IS NOT NULL AND r.wake_at IS NOT NULL AND r.rank > -2000000000
);

-- name: enter_lines
-- Those whose time has come get their place in line.
UPDATE runs
SET lane = iif(q.keyed, ifnull(key, ''), ''), rank = iif(q.ranked, priority, 0)
FROM queues AS q
WHERE q.name = runs.queue AND runs.run IN (
    SELECT d.run
    FROM json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w CROSS JOIN runs AS d ON d.run IN (
        SELECT run FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = q.value AND workflow = w.value
          AND rank = -2000000000 AND lane = '' AND wake_at <= :now
        ORDER BY wake_at LIMIT :limit
    )
);

-- name: next_in_lines
-- When the next one's time comes.
SELECT min((
    SELECT wake_at FROM runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = q.value AND workflow = w.value
      AND rank = -2000000000 AND lane = ''
    ORDER BY wake_at LIMIT 1
))
FROM json_each(:queues) AS q CROSS JOIN json_each(:workflows) AS w;

-- name: line
-- The first of a line with one lane.
SELECT d.run
FROM json_each(:workflows) AS w CROSS JOIN runs AS d ON d.run IN (
    SELECT run FROM runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = w.value
      AND rank > -2000000000
    ORDER BY rank DESC, lane, wake_at, run LIMIT :limit
)
ORDER BY d.rank DESC, d.wake_at, d.run
LIMIT :limit;

-- name: line_levels
-- The ranks in a line, the highest first: from one to the next in the index.
WITH RECURSIVE level (workflow, rank) AS (
    SELECT w.value, (
        SELECT rank FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = w.value
          AND rank > -2000000000
        ORDER BY rank DESC LIMIT 1
    )
    FROM json_each(:workflows) AS w
    UNION ALL
    SELECT workflow, (
        SELECT rank FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = level.workflow
          AND rank < level.rank AND rank > -2000000000
        ORDER BY rank DESC LIMIT 1
    )
    FROM level WHERE rank IS NOT NULL
    ORDER BY 2 DESC
    LIMIT :limit
)
SELECT rank, workflow FROM level WHERE rank IS NOT NULL ORDER BY rank DESC, workflow;

-- name: line_lanes
-- The lanes of a rank after another lane, each with when its head was due: from one to the next in the index.
WITH RECURSIVE head (lane, wake_at) AS (
    SELECT lane, wake_at FROM (
        SELECT lane, wake_at FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = :workflow
          AND rank = :rank AND lane > :after
        ORDER BY lane, wake_at LIMIT 1
    )
    UNION ALL
    SELECT r.lane, r.wake_at
    FROM head CROSS JOIN runs AS r ON r.run = (
        SELECT run FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = :workflow
          AND rank = :rank AND lane > head.lane
        ORDER BY lane, wake_at LIMIT 1
    )
    LIMIT :limit
)
SELECT lane, wake_at FROM head;

-- name: line_lanes_upto
-- The same from the first lane up to one.
WITH RECURSIVE head (lane, wake_at) AS (
    SELECT lane, wake_at FROM (
        SELECT lane, wake_at FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = :workflow
          AND rank = :rank AND lane <= :upto
        ORDER BY lane, wake_at LIMIT 1
    )
    UNION ALL
    SELECT r.lane, r.wake_at
    FROM head CROSS JOIN runs AS r ON r.run = (
        SELECT run FROM runs
        WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = :workflow
          AND rank = :rank AND lane > head.lane AND lane <= :upto
        ORDER BY lane, wake_at LIMIT 1
    )
    LIMIT :limit
)
SELECT lane, wake_at FROM head;

-- name: line_firsts
-- The first so many of each of some lanes.
SELECT d.run, l.value
FROM json_each(:lanes) AS l CROSS JOIN runs AS d ON d.run IN (
    SELECT run FROM runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND workflow = :workflow
      AND rank = :rank AND lane = l.value
    ORDER BY wake_at, run LIMIT :limit
)
ORDER BY l.key, d.wake_at, d.run;

-- name: admit
-- As `claim`, and it has its slot.
UPDATE runs
SET version = iif(pinned = 1 AND version IS NOT NULL, version, (SELECT version FROM workers WHERE id = :worker)),
    owner = :worker, epoch = epoch + 1, status = 'running', reason = NULL, block_code = NULL, wake_at = NULL,
    updated_at = :now, started_at = ifnull(started_at, :now), slot = 1, lane = NULL, rank = NULL
WHERE run IN (SELECT value FROM json_each(:runs));

-- name: admitted
UPDATE queues SET arrival = :arrival, turn = :turn WHERE name = :name;

-- name: slots
-- How many slots are held, by key.
SELECT ifnull(key, ''), count(*) FROM runs WHERE queue = :queue AND slot = 1 AND ended_at IS NULL GROUP BY key;

-- name: slots_here
-- How many runs of a queue a worker drives.
SELECT count(*) FROM runs WHERE owner = :worker AND queue = :queue;

-- name: queue
SELECT name, defined, overrides, settings, limited, keyed, ranked, paused, draining, arrival, turn, changed_at
FROM queues WHERE name = :name;

-- name: queues
SELECT name, defined, overrides, settings, limited, keyed, ranked, paused, draining, arrival, turn, changed_at
FROM queues ORDER BY name;

-- name: put_queue
INSERT INTO queues (name, defined, overrides, settings, limited, keyed, ranked, paused, draining, changed_at)
VALUES (:name, :defined, :overrides, :settings, :limited, :keyed, :ranked, :paused, :draining, :changed_at)
ON CONFLICT (name) DO UPDATE
SET defined = excluded.defined, overrides = excluded.overrides, settings = excluded.settings,
    limited = excluded.limited, keyed = excluded.keyed, ranked = excluded.ranked, paused = excluded.paused,
    draining = excluded.draining, changed_at = excluded.changed_at;

-- name: limit_queue
-- A queue has limits from now on: what goes on there holds slots, what hasn't begun stands in line.
UPDATE runs
SET slot = started_at IS NOT NULL,
    lane = iif(started_at IS NOT NULL, NULL, iif(:keyed AND ifnull(wake_at, ifnull(paused, 0.0)) <= :now,
                                                ifnull(key, ''), '')),
    rank = iif(started_at IS NOT NULL, NULL,
               iif(ifnull(wake_at, ifnull(paused, 0.0)) > :now, -2000000000, iif(:ranked, priority, 0)))
WHERE queue = :name AND ended_at IS NULL;

-- name: rank_line
-- The order of a line has changed.
UPDATE runs
SET lane = iif(:keyed, ifnull(key, ''), ''), rank = iif(:ranked, priority, 0)
WHERE queue = :name AND lane IS NOT NULL AND ended_at IS NULL AND rank > -2000000000;

-- name: put_in_lines
-- Runs that were moved here stand in line, or hold a slot, as the queues here would have it.
UPDATE runs
SET slot = started_at IS NOT NULL,
    lane = iif(started_at IS NOT NULL, NULL, iif(q.keyed AND ifnull(wake_at, ifnull(runs.paused, 0.0)) <= :now,
                                                ifnull(key, ''), '')),
    rank = iif(started_at IS NOT NULL, NULL,
               iif(ifnull(wake_at, ifnull(runs.paused, 0.0)) > :now, -2000000000, iif(q.ranked, priority, 0)))
FROM queues AS q
WHERE q.name = runs.queue AND q.limited = 1 AND runs.ended_at IS NULL
  AND runs.run IN (SELECT value FROM json_each(:runs));

-- name: queue_counts
-- Of the queues with limits: how many stand in line, how many have their time to come, since when the first waits.
SELECT queue, sum(rank > -2000000000), sum(rank = -2000000000), min(iif(rank > -2000000000, wake_at, NULL))
FROM runs WHERE lane IS NOT NULL AND wake_at IS NOT NULL GROUP BY queue;

-- name: slot_counts
SELECT queue, count(*) FROM runs WHERE slot = 1 AND ended_at IS NULL GROUP BY queue;

-- name: due_counts
-- Of the others: what is due or will be.
SELECT queue, sum(wake_at <= :now), sum(wake_at > :now), min(wake_at)
FROM runs WHERE owner IS NULL AND wake_at IS NOT NULL AND lane IS NULL GROUP BY queue;

-- name: owned_counts
SELECT queue, count(*) FROM runs WHERE owner IS NOT NULL GROUP BY queue;

-- name: standing_of
SELECT queue, workflow, key, priority, dedup, slot, lane, rank, wake_at, parent FROM runs WHERE run = :run;

-- name: ahead
-- How many stand before a run, counted so far and no further. Of other keys those count that are of a higher rank.
SELECT count(*) FROM (
    SELECT 1 FROM runs
    WHERE lane IS NOT NULL AND wake_at IS NOT NULL AND queue = :queue AND rank > -2000000000
      AND (rank > :rank OR (rank = :rank AND lane = :lane AND (wake_at, run) < (:wake_at, :run)))
    LIMIT :limit
);

-- name: slot_holders
SELECT id FROM runs WHERE queue = :queue AND slot = 1 AND ended_at IS NULL AND (:key IS NULL OR key = :key)
LIMIT :limit;

-- name: dedup_holder
SELECT run FROM runs WHERE dedup = :dedup AND ended_at IS NULL;

-- name: dedup_of
SELECT dedup FROM runs WHERE run = :run;

-- name: free_dedup
UPDATE runs SET dedup = NULL WHERE run = :run;

-- name: replace_unbegun
-- A run that nobody has driven yet starts later, and from other input.
UPDATE runs
SET fingerprint = :fingerprint, updated_at = :now, key = :key, priority = :priority,
    wake_at = iif(wake_at IS NULL, NULL, max(wake_at, min(:wake_at, ifnull(created_at + :at_most, :wake_at)))),
    paused = iif(paused IS NULL, NULL, max(paused, min(:wake_at, ifnull(created_at + :at_most, :wake_at)))),
    lane = iif(lane IS NULL, NULL, ''), rank = iif(lane IS NULL, NULL, -2000000000)
WHERE run = :run AND workflow = :workflow AND started_at IS NULL AND owner IS NULL AND ended_at IS NULL;

-- name: replace_first_event
UPDATE events SET data = :data, link = :link WHERE run = :run AND seq = 1;

-- name: known_as
SELECT id, generation FROM runs WHERE run = :run;

-- name: has_begun
SELECT started_at IS NOT NULL FROM runs WHERE run = :run;

-- name: holds_slot
SELECT slot = 1 AND ended_at IS NULL AND queue = :queue FROM runs WHERE run = :run;
