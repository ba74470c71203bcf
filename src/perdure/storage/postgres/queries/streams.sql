-- Streams: items that runs put out, and marks that take back those of failed attempts.

-- name: driven
-- Whether a run is driven in this epoch; it stays so until the transaction's end.
SELECT run FROM perdure.runs
WHERE run = %(run)s::bigint AND epoch = %(epoch)s::bigint AND (owner IS NULL) IS FALSE  -- so that no other index fits
FOR SHARE;

-- name: grow_stream
-- Make room for items at the end of a run's stream, which is made if need be; tells the newest offset.
INSERT INTO perdure.streams AS st (id, name, stream, size)
SELECT id, %(name)s, %(stream)s::bigint, %(count)s::bigint FROM perdure.runs WHERE run = %(run)s::bigint
ON CONFLICT (id, name) DO UPDATE SET size = st.size + excluded.size
RETURNING stream, size;

-- name: put_items
INSERT INTO perdure.stream_items (stream, place, at, run, step, attempt, data, since)
SELECT %(stream)s::bigint, i.place, %(at)s::double precision, %(run)s::bigint, %(step)s::text, %(attempt)s::bigint,
       i.data, %(since)s::bigint
FROM unnest(%(places)b::bigint[], %(data)b::bytea[]) AS i (place, data);

-- name: note_writer
-- Remember which of a stream's items are a step's, so that they can be taken back.
INSERT INTO perdure.stream_writers AS w (stream, run, step, attempt, first, last, superseded, open)
VALUES (%(stream)s::bigint, %(run)s::bigint, %(step)s, %(attempt)s::bigint, %(first)s::bigint, %(last)s::bigint, 0,
        true)
ON CONFLICT (run, step, stream) DO UPDATE
SET open = true, attempt = excluded.attempt, last = excluded.last,
    first = CASE WHEN w.superseded > w.first THEN excluded.first ELSE w.first END;

-- name: writers
-- Where a step has items that no mark has taken back.
SELECT stream, attempt, first
FROM perdure.stream_writers
WHERE run = %(run)s::bigint AND step = %(step)s AND last > superseded
ORDER BY stream;

-- name: lengthen_stream
UPDATE perdure.streams SET size = size + 1 WHERE stream = %(stream)s::bigint RETURNING size;

-- name: take_back
UPDATE perdure.stream_writers SET superseded = %(place)s::bigint, open = false
WHERE run = %(run)s::bigint AND step = %(step)s AND stream = %(stream)s::bigint;

-- name: settle
-- The step has its result: its items stay.
UPDATE perdure.stream_writers SET open = false WHERE run = %(run)s::bigint AND step = %(step)s;

-- name: unsettled
SELECT DISTINCT run, step COLLATE "C"
FROM perdure.stream_writers
WHERE run = ANY (%(runs)b::bigint[]) AND open
ORDER BY 1, 2;

-- name: run_ended
-- Whether the newest run of an id has ended.
SELECT ended_at IS NOT NULL FROM perdure.runs WHERE run = (SELECT i.run FROM perdure.ids AS i WHERE i.id = %(id)s);

-- name: stream_items
SELECT item.place, item.at, item.data, item.step, item.attempt,
       item.step IS NOT NULL AND item.data IS NOT NULL AND EXISTS (
           SELECT 1 FROM perdure.stream_writers AS w
           WHERE w.run = item.run AND w.step = item.step AND w.stream = item.stream AND w.superseded > item.place
       ),
       item.since
FROM perdure.stream_items AS item
WHERE item.stream = (SELECT st.stream FROM perdure.streams AS st WHERE st.id = %(id)s AND st.name = %(name)s)
  AND item.place > %(after)s::bigint
ORDER BY item.place
LIMIT %(limit)s::bigint;

-- name: stream_names
SELECT name, size FROM perdure.streams WHERE id = %(id)s ORDER BY name COLLATE "C";
