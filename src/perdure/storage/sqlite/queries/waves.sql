-- Appends as one statement. A statement outside a transaction is one of its own: SQLite begins it, does everything and
-- commits within a single call. Each call that takes long gives up Python's global lock and must wait to get it back,
-- up to 5 ms while other threads are busy: the loop's own, say, which goes on meanwhile. What is to be done is said by
-- triggers on views; they belong to the connection and aren't in the file. Within a transaction the same statements
-- do the same, but for the commit.
--
-- A refused append ends its statement by an error, and nothing of it has happened.

-- name: make_lone
CREATE TEMP VIEW lone AS
SELECT NULL AS run, NULL AS expected, NULL AS epoch, NULL AS attempt, NULL AS now, NULL AS link, NULL AS data;

-- name: make_lone_rules
-- The compare-and-set that locks a run's row, fences stale drivers off and moves the run on. A repeat
-- of the append that is there already doesn't pass either; it recognises itself by `standing`.
CREATE TEMP TRIGGER apply_lone INSTEAD OF INSERT ON lone
BEGIN
    UPDATE runs
    SET seq = NEW.expected + 1, chain = NEW.link, attempt = NEW.attempt, updated_at = NEW.now, recoveries = 0
    WHERE run = NEW.run AND seq = NEW.expected AND epoch = NEW.epoch
      AND owner IS NOT NULL AND attempt IS NOT NEW.attempt;
    SELECT RAISE(ABORT, 'stale') WHERE changes() <> 1;
    INSERT INTO events (run, seq, link, data) VALUES (NEW.run, NEW.expected + 1, NEW.link, NEW.data);
END;

-- name: append_lone
-- One event of one run: the outcome of a step, mostly.
INSERT INTO lone (run, expected, epoch, attempt, now, link, data) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: make_wave
CREATE TEMP VIEW wave AS
SELECT NULL AS number, NULL AS appends, NULL AS events, NULL AS data, NULL AS ending, NULL AS ends;

-- name: make_wave_rules
-- The same for many runs, and the ends of some of them. `number` appends: [[run, expected, epoch, attempt, seq, now,
-- chain], ...]; their events, cut out of one blob `data`: [[run, seq, link, offset, length], ...]; which of the runs
-- are `ending`: [run, ...]; and the `ends` of those of which no more is to be done than that: [[run, status, reason,
-- block_code, now], ...]. If one that ends has living children, what comes of these may concern others in the wave,
-- so the order counts: refused, too.
CREATE TEMP TRIGGER apply_wave INSTEAD OF INSERT ON wave
BEGIN
    SELECT RAISE(ABORT, 'children') FROM json_each(NEW.ending) AS p CROSS JOIN runs AS c ON c.parent = p.value
    WHERE c.ended_at IS NULL;
    UPDATE runs
    SET seq = a.seq, chain = ifnull(a.chain, runs.chain), attempt = a.attempt, updated_at = a.now,
        recoveries = iif(a.seq > a.expected, 0, recoveries)
    FROM (
        SELECT value ->> 0 AS run, value ->> 1 AS expected, value ->> 2 AS epoch,
               value ->> 3 AS attempt, value ->> 4 AS seq, value ->> 5 AS now, value ->> 6 AS chain
        FROM json_each(NEW.appends)
    ) AS a
    WHERE runs.run = a.run AND runs.seq = a.expected AND runs.epoch = a.epoch
      AND +runs.owner IS NOT NULL  -- not by the index of all that are owned
      AND runs.attempt IS NOT a.attempt;
    SELECT RAISE(ABORT, 'stale') WHERE changes() <> NEW.number;
    INSERT INTO events (run, seq, link, data)
    SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, substr(NEW.data, e.value ->> 3, e.value ->> 4)
    FROM json_each(NEW.events) AS e;
    UPDATE runs
    SET status = a.status, reason = a.reason, block_code = a.block_code, ended_at = a.now,
        owner = NULL, wake_at = NULL,
        mail = iif(mail = 0, 0, (SELECT count(*) FROM inbox AS i WHERE i.run = runs.run AND i.kind <> 'control'))
    FROM (
        SELECT value ->> 0 AS run, value ->> 1 AS status, value ->> 2 AS reason, value ->> 3 AS block_code,
               value ->> 4 AS now
        FROM json_each(NEW.ends)
    ) AS a
    WHERE runs.run = a.run;
    DELETE FROM inbox WHERE run IN (SELECT value ->> 0 FROM json_each(NEW.ends)) AND kind = 'control';
    DELETE FROM step_details WHERE run IN (SELECT value ->> 0 FROM json_each(NEW.ends));
END;

-- name: append_wave
INSERT INTO wave (number, appends, events, data, ending, ends)
VALUES (:number, :appends, :events, :data, :ending, :ends);
