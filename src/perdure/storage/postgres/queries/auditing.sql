-- Looking through everything for damage.

-- name: standings
-- A page of runs, in the order of their keys.
SELECT r.run, r.id, r.generation, r.seq, r.chain, r.status, r.mail,
       (SELECT count(*) FROM perdure.inbox AS i WHERE i.run = r.run), r.checkpoint, r.next,
       (SELECT n.id = r.id FROM perdure.runs AS n WHERE n.run = r.next) IS TRUE,
       r.next IS NOT NULL OR EXISTS (SELECT 1 FROM perdure.ids AS c WHERE c.id = r.id AND c.run = r.run)
FROM perdure.runs AS r WHERE r.run > %(after)s::bigint ORDER BY r.run LIMIT %(limit)s::bigint;

-- name: keys_of_id
-- Every generation of a run.
SELECT run FROM perdure.runs WHERE id = %(id)s ORDER BY run + 0;  -- an order that no index has

-- name: failed_checksums
-- What the server has found wrong with the pages of this database, if it looks at all.
SELECT checksum_failures FROM pg_catalog.pg_stat_database WHERE datname = current_database();

-- name: replayable
-- A page of runs whose histories some code is to be tried on, in the order of their keys.
SELECT run, id, generation, workflow, status, seq, chain, checkpoint, coalesce(started_at, created_at),
       started_at IS NOT NULL, version, pinned
FROM perdure.runs WHERE run > %(after)s::bigint AND (%(finished)s::boolean OR ended_at IS NULL)
ORDER BY run LIMIT %(limit)s::bigint;
