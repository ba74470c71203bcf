-- Looking at very many runs.

-- name: floor_below
SELECT run FROM perdure.runs WHERE run < %(before)s::bigint ORDER BY run DESC LIMIT 1 OFFSET %(depth)s::bigint;

-- name: having_text
-- Keys of runs that have an attribute with one of these values.
SELECT run FROM perdure.attributes
WHERE family = 'text' AND name = %(name)s::text AND text = ANY (%(texts)s::text[])
LIMIT %(limit)s::bigint;

-- name: having_number
SELECT run FROM perdure.attributes
WHERE family <> 'text' AND name = %(name)s::text AND number = ANY (%(numbers)s::numeric[])
LIMIT %(limit)s::bigint;

-- name: having_from
SELECT run FROM perdure.attributes
WHERE family <> 'text' AND name = %(name)s::text AND number >= %(number)s::numeric
LIMIT %(limit)s::bigint;

-- name: having_upto
SELECT run FROM perdure.attributes
WHERE family <> 'text' AND name = %(name)s::text AND number <= %(number)s::numeric
LIMIT %(limit)s::bigint;

-- name: workflows_above
SELECT DISTINCT workflow FROM perdure.runs WHERE run > %(floor)s::bigint;
