-- Attributes of runs, and finding runs by them.

-- name: remove_attribute
DELETE FROM perdure.attributes WHERE run = %(run)s::bigint AND name = %(name)s;

-- name: put_attribute
INSERT INTO perdure.attributes (run, name, place, family, text, number)
VALUES (%(run)s::bigint, %(name)s, %(place)s::bigint, %(family)s, %(text)s, %(number)s::numeric);

-- name: quiet_mail
-- Count an inbox item that wakes nobody.
UPDATE perdure.runs SET mail = mail + 1, mail_number = mail_number + 1
WHERE run = %(run)s::bigint AND ended_at IS NULL
RETURNING mail_number;

-- name: attributes_of
SELECT run, name, place, family, text FROM perdure.attributes
WHERE run = ANY (%(runs)b::bigint[])
ORDER BY run, name COLLATE "C", place;

-- name: find_keys
-- Keys of runs, newest first. Conditions are a JSON list of [name, operator, [[family, value], ...]]; the runs are
-- those that have an attribute of this name, with one of these values if they are given.
SELECT r.run
FROM perdure.runs AS r
WHERE (%(name)s::text IS NULL OR r.run IN (
           SELECT a.run FROM perdure.attributes AS a
           WHERE a.name = %(name)s::text AND a.family = 'text'
             AND (%(texts)s::text[] IS NULL OR a.text = ANY (%(texts)s::text[]))
           UNION ALL
           SELECT a.run FROM perdure.attributes AS a
           WHERE a.name = %(name)s::text AND a.family <> 'text'
             AND (%(texts)s::text[] IS NULL OR a.number = ANY (%(numbers)s::numeric[]))
       ))
  AND r.next IS NULL AND r.run < %(before)s::bigint AND r.run > %(floor)s::bigint
  AND (%(text)s::text IS NULL OR strpos(r.id, %(text)s::text) > 0 OR strpos(r.reason, %(text)s::text) > 0)
  -- with: wanted
ORDER BY r.run DESC
LIMIT %(limit)s::bigint;

-- name: children_of
SELECT run FROM perdure.runs WHERE parent = %(parent)s::bigint;

-- name: find_among
-- The same among runs with these keys.
SELECT r.run
FROM perdure.runs AS r
WHERE r.run = ANY (%(among)b::bigint[]) AND r.next IS NULL AND r.run < %(before)s::bigint AND r.run > %(floor)s::bigint
  AND (%(text)s::text IS NULL OR strpos(substr(r.id, length(coalesce(%(within)s::text, '')) + 1), %(text)s::text) > 0
       OR strpos(r.reason, %(text)s::text) > 0)
  AND (%(within)s::text IS NULL OR left(r.id, length(%(within)s::text)) = %(within)s::text)
  -- with: wanted
ORDER BY r.run DESC
LIMIT %(limit)s::bigint;

-- name: mark_patched
INSERT INTO perdure.patches (run, change) VALUES (%(run)s::bigint, %(change)s) ON CONFLICT DO NOTHING;

-- name: hand_attributes_on
-- They go over to the next generation of their run.
UPDATE perdure.attributes SET run = %(next)s::bigint WHERE run = %(run)s::bigint;
