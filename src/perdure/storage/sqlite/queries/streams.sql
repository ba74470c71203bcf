-- Streams: items that runs put out, and marks that take back those of failed attempts.

-- name: driven
-- Whether a run is driven in this epoch.
SELECT EXISTS (SELECT 1 FROM runs WHERE run = :run AND epoch = :epoch AND owner IS NOT NULL);

-- name: grow_stream
-- Make room for items at the end of a run's stream, which is made if need be; tells the newest offset.
INSERT INTO streams (id, name, size) SELECT id, :name, :count FROM runs WHERE run = :run
ON CONFLICT (id, name) DO UPDATE SET size = size + excluded.size
RETURNING stream, size;

-- name: put_item
INSERT INTO stream_items (stream, offset, at, run, step, attempt, data, since)
VALUES (:stream, :offset, :at, :run, :step, :attempt, :data, :since);

-- name: put_items
-- Many items of one attempt, cut out of one blob: [[offset in the blob, length], ...].
INSERT INTO stream_items (stream, offset, at, run, step, attempt, data, since)
SELECT :stream, :base + i.key, :at, :run, :step, :attempt,
       substr(:data, i.value ->> 0, i.value ->> 1), 0
FROM json_each(:places) AS i;

-- name: note_writer
-- Remember which of a stream's items are a step's, so that they can be taken back.
INSERT INTO stream_writers (stream, run, step, attempt, first, last, superseded, open)
VALUES (:stream, :run, :step, :attempt, :first, :last, 0, 1)
ON CONFLICT (run, step, stream) DO UPDATE
SET open = 1, attempt = excluded.attempt, last = excluded.last, first = iif(superseded > first, excluded.first, first);

-- name: writers
-- Where a step has items that no mark has taken back.
SELECT w.stream, w.attempt, w.first
FROM stream_writers AS w
WHERE w.run = :run AND w.step = :step AND w.last > w.superseded
ORDER BY w.stream;

-- name: lengthen_stream
UPDATE streams SET size = size + 1 WHERE stream = :stream RETURNING size;

-- name: take_back
UPDATE stream_writers SET superseded = :offset, open = 0 WHERE run = :run AND step = :step AND stream = :stream;

-- name: settle
-- The step has its result: its items stay.
UPDATE stream_writers SET open = 0 WHERE run = :run AND step = :step;

-- name: unsettled
SELECT w.run, w.step
FROM json_each(:runs) AS k CROSS JOIN stream_writers AS w ON w.run = k.value AND w.open = 1
GROUP BY w.run, w.step
ORDER BY w.run, w.step;

-- name: run_ended
-- Whether the newest run of an id has ended.
SELECT ended_at IS NOT NULL FROM runs WHERE id = :id AND next IS NULL;

-- name: stream_items
SELECT item.offset, item.at, item.data, item.step, item.attempt,
       item.step IS NOT NULL AND item.data IS NOT NULL AND EXISTS (
           SELECT 1 FROM stream_writers AS w
           WHERE w.run = item.run AND w.step = item.step AND w.stream = item.stream AND w.superseded > item.offset
       ),
       item.since
FROM streams AS st CROSS JOIN stream_items AS item ON item.stream = st.stream
WHERE st.id = :id AND st.name = :name AND item.offset > :after
ORDER BY item.offset
LIMIT :limit;

-- name: stream_names
SELECT name, size FROM streams WHERE id = :id ORDER BY name;
