-- What a distribution asks; see storage/distribution.py.

-- part: any_unsettled
-- In an order that one index has alone: that of others over numbers costs nothing either while there are none, and the
-- plan stays when there are millions that are settled.
(SELECT number FROM perdure.publications WHERE NOT settled AND number IS NOT NULL ORDER BY number + 0 LIMIT 1)
IS NOT NULL

-- name: lock_clock
-- Nobody waits for it: who finds it locked needn't do what the other one does.
SELECT number,
       EXISTS (SELECT 1 FROM perdure.publications WHERE number IS NULL),
       EXISTS (SELECT 1 FROM perdure.publication_waits WHERE fresh),
       -- with: any_unsettled
       ,
       EXISTS (SELECT 1 FROM perdure.gatherings WHERE due_at <= %(now)s::double precision),
       EXISTS (SELECT 1 FROM perdure.subscriptions)
FROM perdure.publication_clock WHERE one = 1 AND NOT EXISTS (SELECT 1 FROM perdure.moves)
FOR UPDATE OF publication_clock SKIP LOCKED;

-- name: wait_for_clock
SELECT number FROM perdure.publication_clock WHERE one = 1 FOR UPDATE;

-- name: unnumbered
SELECT id FROM perdure.publications WHERE number IS NULL ORDER BY at, id LIMIT %(limit)s::bigint;

-- name: number_publications
-- Not joined, so that none but these are read: the numbers are looked up in an object.
UPDATE perdure.publications SET number = (%(numbers)s::jsonb ->> id)::bigint WHERE id = ANY (%(ids)b::text[]);

-- name: set_clock
UPDATE perdure.publication_clock SET number = %(number)s::bigint WHERE one = 1;

-- name: waits_new
SELECT run, op, name, condition, since, after FROM perdure.publication_waits WHERE fresh
ORDER BY run, op LIMIT %(limit)s::bigint;

-- name: publications_after
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE name = %(name)s AND number > %(after)s::bigint ORDER BY number LIMIT %(limit)s::bigint;

-- name: looked_back
UPDATE perdure.publication_waits SET fresh = false
WHERE run = ANY (%(runs)b::bigint[])
  AND ((run, op) IN (SELECT * FROM unnest(%(runs)b::bigint[], %(ops)b::text[]))) IS TRUE;  -- in a hash table

-- name: publications_unsettled
SELECT id, name, key, payload, at, number, settled FROM perdure.publications
WHERE NOT settled AND number IS NOT NULL ORDER BY number + 0 LIMIT %(limit)s::bigint;

-- name: shapes
SELECT name, fields FROM perdure.publication_shapes WHERE name = ANY (%(names)b::text[]) ORDER BY name, fields;

-- name: takers
SELECT run, op, name, condition, since, after FROM perdure.publication_waits
WHERE match = %(match)s::bytea AND NOT fresh AND (run, op) > (%(run)s::bigint, %(op)s::text)
ORDER BY run, op LIMIT %(limit)s::bigint;

-- name: lock_runs
-- In the order in which everybody locks runs.
SELECT run FROM perdure.runs WHERE run = ANY (%(runs)b::bigint[]) ORDER BY run FOR UPDATE;

-- name: end_waits
DELETE FROM perdure.publication_waits
WHERE run = ANY (%(runs)b::bigint[])
  AND ((run, op) IN (SELECT * FROM unnest(%(runs)b::bigint[], %(ops)b::text[]))) IS TRUE
RETURNING run, op;

-- name: more_mail_many
-- Count new inbox items, and make the runs due unless somebody drives them (who will look) or they are held.
-- The runs come in order.
UPDATE perdure.runs AS r
SET mail = r.mail + (%(items)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])],
    mail_number = r.mail_number + (%(items)b::bigint[])[width_bucket(r.run, %(runs)b::bigint[])],
    wake_at = CASE
        WHEN r.owner IS NOT NULL OR r.status = 'paused' OR (r.status = 'blocked' AND r.block_code <> 'step')
            THEN r.wake_at
        ELSE least(coalesce(r.wake_at, %(now)s::double precision), %(now)s::double precision) END
WHERE r.run = ANY (%(runs)b::bigint[]) AND r.ended_at IS NULL
RETURNING r.run, r.mail_number;

-- name: put_mail_many
INSERT INTO perdure.inbox (run, id, kind, data)
SELECT n.run, n.id, 'control', n.data
FROM unnest(%(runs)b::bigint[], %(numbers)b::bigint[], %(data)b::bytea[]) AS n (run, id, data);

-- name: settle_publications
UPDATE perdure.publications SET settled = true WHERE id = ANY (%(ids)b::text[]);

-- name: subscriptions_to
SELECT workflow COLLATE "C", data FROM perdure.subscriptions WHERE event = ANY (%(events)b::text[])
UNION
SELECT workflow COLLATE "C", data FROM perdure.subscriptions WHERE workflow = ANY (%(workflows)b::text[])
ORDER BY 1;

-- name: gathering
SELECT workflow, grp, due_at, count FROM perdure.gatherings WHERE workflow = %(workflow)s AND grp = %(grp)s;

-- name: gatherings_due
SELECT workflow, grp, due_at, count FROM perdure.gatherings WHERE due_at <= %(now)s::double precision
ORDER BY due_at, workflow, grp LIMIT %(limit)s::bigint;

-- name: gathered
SELECT number, at, payload FROM perdure.gathered WHERE workflow = %(workflow)s AND grp = %(grp)s
ORDER BY number LIMIT %(limit)s::bigint;

-- name: keep_gathering
INSERT INTO perdure.gatherings (workflow, grp, due_at, count)
VALUES (%(workflow)s, %(grp)s, %(due_at)s::double precision, %(count)s::bigint)
ON CONFLICT (workflow, grp) DO UPDATE SET due_at = excluded.due_at, count = excluded.count;

-- name: drop_gathering
DELETE FROM perdure.gatherings WHERE workflow = %(workflow)s AND grp = %(grp)s;

-- name: drop_content
DELETE FROM perdure.gathered WHERE workflow = %(workflow)s AND grp = %(grp)s AND number <= %(upto)s::bigint;

-- name: add_content
INSERT INTO perdure.gathered (workflow, grp, number, at, payload)
SELECT %(workflow)s::text, %(grp)s::text, n.number, n.at, n.payload
FROM unnest(%(numbers)b::bigint[], %(ats)b::double precision[], %(payloads)b::bytea[]) AS n (number, at, payload)
ON CONFLICT (workflow, grp, number) DO NOTHING;

-- name: ids_of
SELECT run, id FROM perdure.runs WHERE run = ANY (%(runs)s::bigint[]);
