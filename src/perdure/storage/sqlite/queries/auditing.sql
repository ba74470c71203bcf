-- Looking through everything for damage.

-- name: standings
-- A page of runs, in the order of their keys. Texts as bytes: what isn't UTF-8 any more is to be told, not to be an error.
SELECT r.run, CAST(r.id AS BLOB), r.generation, r.seq, r.chain, CAST(r.status AS BLOB), r.mail,
       (SELECT count(*) FROM inbox AS i WHERE i.run = r.run), r.checkpoint, r.next,
       EXISTS (SELECT 1 FROM runs AS n WHERE n.run = r.next AND n.id = r.id),
       r.next IS NOT NULL OR EXISTS (SELECT 1 FROM runs AS c WHERE c.id = r.id AND c.next IS NULL AND c.run = r.run)
FROM runs AS r WHERE r.run > :after ORDER BY r.run LIMIT :limit;

-- name: keys_of_id
-- Every generation of a run.
SELECT run FROM runs WHERE id = :id AND next IS NULL
UNION ALL
SELECT run FROM runs WHERE id = :id AND next IS NOT NULL
ORDER BY 1;

-- name: replayable
-- A page of runs whose histories some code is to be tried on, in the order of their keys.
SELECT run, id, generation, workflow, status, seq, chain, checkpoint, coalesce(started_at, created_at),
       started_at IS NOT NULL, version, pinned
FROM runs WHERE run > :after AND (:finished OR ended_at IS NULL) ORDER BY run LIMIT :limit;
