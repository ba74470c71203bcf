-- Schedules: what starts runs by itself.

-- name: create_schedule
INSERT INTO perdure.schedules (name, version, due_at, waiting, running, data)
VALUES (%(name)s, %(version)s::bigint, %(due_at)s::double precision, %(waiting)s::boolean, %(running)s::text[],
        %(data)s::bytea)
ON CONFLICT (name) DO NOTHING;

-- name: schedule
SELECT name, version, due_at, waiting, running, data FROM perdure.schedules WHERE name = %(name)s;

-- name: schedules
SELECT name, version, due_at, waiting, running, data FROM perdure.schedules ORDER BY name COLLATE "C";

-- name: change_schedule
-- The compare-and-set: whoever read an older version changes nothing.
UPDATE perdure.schedules
SET version = version + 1, due_at = %(due_at)s::double precision, waiting = %(waiting)s::boolean,
    running = %(running)s::text[], data = %(data)s::bytea
WHERE name = %(name)s AND version = %(version)s::bigint;

-- name: delete_schedule
DELETE FROM perdure.schedules WHERE name = %(name)s;

-- name: schedules_idle_until
-- Whether a look at the schedules may find something, and when the next one is due. Most looks are answered by this.
SELECT EXISTS (SELECT 1 FROM perdure.schedules WHERE due_at <= %(now)s::double precision)
       OR EXISTS (SELECT 1 FROM perdure.schedules WHERE waiting),
       (SELECT min(due_at) FROM perdure.schedules
        WHERE due_at > %(now)s::double precision AND NOT EXISTS (SELECT 1 FROM perdure.moves));

-- name: schedules_due
SELECT name, version, due_at, waiting, running, data FROM perdure.schedules
WHERE due_at <= %(now)s::double precision AND NOT EXISTS (SELECT 1 FROM perdure.moves)
ORDER BY due_at, name LIMIT %(limit)s::bigint;

-- name: schedules_free
-- Those with slots that waited for runs which have all ended by now.
SELECT s.name, s.version, s.due_at, s.waiting, s.running, s.data FROM perdure.schedules AS s
WHERE s.waiting AND NOT EXISTS (SELECT 1 FROM perdure.moves) AND NOT EXISTS (
    SELECT 1 FROM unnest(s.running) AS n (id)
    WHERE (SELECT r.ended_at IS NULL FROM perdure.runs AS r
           WHERE r.run = (SELECT i.run FROM perdure.ids AS i WHERE i.id = n.id))
)
ORDER BY s.name
LIMIT %(limit)s::bigint;
