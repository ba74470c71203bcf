-- Schedules: what starts runs by itself.

-- name: create_schedule
INSERT INTO schedules (name, version, due_at, waiting, running, data)
VALUES (:name, :version, :due_at, :waiting, :running, :data)
ON CONFLICT (name) DO NOTHING;

-- name: schedule
SELECT name, version, due_at, waiting, running, data FROM schedules WHERE name = :name;

-- name: schedules
SELECT name, version, due_at, waiting, running, data FROM schedules ORDER BY name;

-- name: change_schedule
-- The compare-and-set: whoever read an older version changes nothing.
UPDATE schedules
SET version = version + 1, due_at = :due_at, waiting = :waiting, running = :running, data = :data
WHERE name = :name AND version = :version;

-- name: delete_schedule
DELETE FROM schedules WHERE name = :name;

-- name: schedules_due
SELECT name, version, due_at, waiting, running, data FROM schedules
WHERE due_at <= :now AND NOT EXISTS (SELECT 1 FROM moves) ORDER BY due_at, name LIMIT :limit;

-- name: schedules_free
-- Those with slots that waited for runs which have all ended by now.
SELECT s.name, s.version, s.due_at, s.waiting, s.running, s.data FROM schedules AS s
WHERE s.waiting = 1 AND NOT EXISTS (SELECT 1 FROM moves) AND NOT EXISTS (
    SELECT 1 FROM json_each(s.running) AS j CROSS JOIN runs AS r ON r.id = j.value AND r.next IS NULL
    WHERE r.ended_at IS NULL
)
ORDER BY s.name
LIMIT :limit;

-- name: next_schedule_at
SELECT min(due_at) FROM schedules WHERE due_at > :now AND NOT EXISTS (SELECT 1 FROM moves);
