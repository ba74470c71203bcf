-- What all searches for runs have in common: the conditions of a RunFilter, but for those that each of them
-- answers in its own way.

-- part: wanted
  AND (%(statuses)s::text[] IS NULL OR r.status = ANY (%(statuses)s::text[]))
  AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s::text
       OR (strpos(%(workflow)s::text, '.') = 0
           AND right(r.workflow, length(%(workflow)s::text) + 1) = '.' || %(workflow)s::text))
  AND (%(since)s::double precision IS NULL OR r.created_at >= %(since)s::double precision)
  AND (%(until)s::double precision IS NULL OR r.created_at < %(until)s::double precision)
  AND (%(errands)s::boolean OR left(r.workflow, 5) <> 'step/')
  AND (%(parent)s::bigint IS NULL OR r.parent = %(parent)s::bigint)
  AND (%(unpatched)s::text IS NULL OR (r.ended_at IS NULL AND (
       SELECT p.run FROM perdure.patches AS p WHERE p.run = r.run AND p.change = %(unpatched)s::text) IS NULL))
  AND NOT EXISTS (
      SELECT 1 FROM jsonb_array_elements(%(conditions)s::jsonb) AS asked WHERE NOT EXISTS (
          SELECT 1
          FROM perdure.attributes AS a CROSS JOIN jsonb_array_elements(asked -> 2) AS v
               CROSS JOIN LATERAL (
                   SELECT CASE
                       WHEN a.family <> 'text' THEN sign(a.number - (v ->> 1)::numeric)
                       WHEN a.text = v ->> 1 THEN 0
                       WHEN a.text COLLATE "C" < v ->> 1 THEN -1
                       ELSE 1 END AS sign
               ) AS c
          WHERE a.run = r.run AND a.name = asked ->> 0 AND a.family = v ->> 0
            AND CASE asked ->> 1
                WHEN '=' THEN c.sign = 0
                WHEN '!=' THEN c.sign <> 0
                WHEN '<' THEN c.sign < 0
                WHEN '<=' THEN c.sign <= 0
                WHEN '>' THEN c.sign > 0
                ELSE c.sign >= 0 END))
