-- Attributes of runs, and finding runs by them.

-- name: remove_attribute
DELETE FROM attributes WHERE run = :run AND name = :name;

-- name: put_attribute
INSERT INTO attributes (run, name, place, family, value) VALUES (:run, :name, :place, :family, :value);

-- name: quiet_mail
-- Count an inbox item that wakes nobody.
UPDATE runs SET mail = mail + 1 WHERE run = :run AND ended_at IS NULL;

-- name: attributes_of
SELECT attr.run, attr.name, attr.place, attr.family, attr.value
FROM json_each(:runs) AS k CROSS JOIN attributes AS attr ON attr.run = k.value
ORDER BY attr.run, attr.name, attr.place;

-- name: find_with
-- Keys of runs that have an attribute with one of these values, newest first: [[family, value], ...].
SELECT r.run
FROM runs AS r
WHERE r.run IN (
    SELECT attr.run FROM json_each(:choices) AS v
         CROSS JOIN attributes AS attr ON attr.name = :name AND attr.family = v.value ->> 0 AND attr.value = v.value ->> 1
  )
  AND r.next IS NULL AND r.run < :before AND r.run > :floor
  AND (:text IS NULL OR instr(r.id, :text) > 0 OR instr(r.reason, :text) > 0)
  -- with: wanted
ORDER BY r.run DESC
LIMIT :limit;

-- name: find_named
-- The same where no attribute must equal something: those that have one of this name, or all (without one).
SELECT r.run
FROM runs AS r
WHERE (:name IS NULL OR r.run IN (SELECT attr.run FROM attributes AS attr WHERE attr.name = :name))
  AND r.next IS NULL AND r.run < :before AND r.run > :floor
  AND (:text IS NULL OR instr(r.id, :text) > 0 OR instr(r.reason, :text) > 0)
  -- with: wanted
ORDER BY r.run DESC
LIMIT :limit;

-- name: find_among
-- The same among runs with these keys.
SELECT r.run
FROM json_each(:among) AS k CROSS JOIN runs AS r ON r.run = k.value
WHERE r.next IS NULL AND r.run < :before AND r.run > :floor
  AND (:text IS NULL OR instr(substr(r.id, length(ifnull(:within, '')) + 1), :text) > 0 OR instr(r.reason, :text) > 0)
  AND (:within IS NULL OR substr(r.id, 1, length(:within)) = :within)
  -- with: wanted
ORDER BY r.run DESC
LIMIT :limit;

-- name: mark_patched
INSERT INTO patches (run, change) VALUES (:run, :change) ON CONFLICT DO NOTHING;

-- name: hand_attributes_on
-- They go over to the next generation of their run.
UPDATE attributes SET run = :next WHERE run = :run;
