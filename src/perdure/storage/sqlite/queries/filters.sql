-- What all searches for runs have in common: the conditions of a RunFilter, but for those that each of them
-- answers in its own way.

-- part: wanted
  AND (:statuses IS NULL OR r.status IN (SELECT value FROM json_each(:statuses)))
  AND (:workflow IS NULL OR r.workflow = :workflow
       OR (instr(:workflow, '.') = 0 AND substr(r.workflow, -length(:workflow) - 1) = '.' || :workflow))
  AND (:since IS NULL OR r.created_at >= :since)
  AND (:until IS NULL OR r.created_at < :until)
  AND (:errands OR substr(r.workflow, 1, 5) <> 'step/')
  AND (:parent IS NULL OR r.parent = :parent)
  AND (:unpatched IS NULL OR (r.ended_at IS NULL AND NOT EXISTS (
       SELECT 1 FROM patches AS p WHERE p.run = r.run AND p.change = :unpatched)))
  AND NOT EXISTS (
      SELECT 1 FROM json_each(:conditions) AS asked WHERE NOT EXISTS (
          SELECT 1 FROM attributes AS attr CROSS JOIN json_each(asked.value ->> 2) AS v
          WHERE attr.run = r.run AND attr.name = asked.value ->> 0 AND attr.family = v.value ->> 0
            AND CASE asked.value ->> 1
                WHEN '=' THEN attr.value = v.value ->> 1
                WHEN '!=' THEN attr.value <> v.value ->> 1
                WHEN '<' THEN attr.value < v.value ->> 1
                WHEN '<=' THEN attr.value <= v.value ->> 1
                WHEN '>' THEN attr.value > v.value ->> 1
                ELSE attr.value >= v.value ->> 1 END))
