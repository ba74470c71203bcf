-- Checkpoints of graphs.

-- name: put_checkpoint
INSERT INTO checkpoints (thread, namespace, id, parent, made_by, channels, metadata, data)
VALUES (:thread, :namespace, :id, :parent, :made_by, :channels, :metadata, :data)
ON CONFLICT (thread, namespace, id) DO UPDATE
SET parent = excluded.parent, made_by = excluded.made_by, channels = excluded.channels, metadata = excluded.metadata,
    data = excluded.data;

-- name: put_value
INSERT INTO checkpoint_values (thread, namespace, channel, version, data) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING;

-- name: put_write
-- What was written first stays, but for those below 0.
INSERT INTO checkpoint_writes (thread, namespace, checkpoint, task, idx, channel, path, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (thread, namespace, checkpoint, task, idx) DO UPDATE
SET channel = excluded.channel, path = excluded.path, data = excluded.data WHERE excluded.idx < 0;

-- name: checkpoint
SELECT thread, namespace, id, parent, made_by, channels, metadata, data FROM checkpoints
WHERE thread = :thread AND namespace = :namespace AND id = :id;

-- name: newest_checkpoint
SELECT thread, namespace, id, parent, made_by, channels, metadata, data FROM checkpoints
WHERE thread = :thread AND namespace = :namespace ORDER BY id DESC LIMIT 1;

-- name: values_of_checkpoint
SELECT v.channel, v.version, v.data
FROM json_each(:channels) AS wanted
     CROSS JOIN checkpoint_values AS v
     ON v.thread = :thread AND v.namespace = :namespace AND v.channel = wanted.key AND v.version = wanted.value
ORDER BY v.channel;

-- name: writes_of_checkpoint
SELECT task, idx, channel, path, data FROM checkpoint_writes
WHERE thread = :thread AND namespace = :namespace AND checkpoint = :id ORDER BY path, task, idx;

-- name: checkpoint_heads
SELECT thread, namespace, id, metadata FROM checkpoints
WHERE (:namespace IS NULL OR namespace = :namespace) AND (:id IS NULL OR id = :id)
      AND (:before IS NULL OR id < :before)
      AND (:after IS NULL OR (id, thread, namespace) < (:after, :after_thread, :after_namespace))
ORDER BY id DESC, thread DESC, namespace DESC LIMIT :limit;

-- name: checkpoint_heads_of_thread
SELECT thread, namespace, id, metadata FROM checkpoints
WHERE thread = :thread AND (:namespace IS NULL OR namespace = :namespace) AND (:id IS NULL OR id = :id)
      AND (:before IS NULL OR id < :before)
      AND (:after IS NULL OR (id, thread, namespace) < (:after, :after_thread, :after_namespace))
ORDER BY id DESC, thread DESC, namespace DESC LIMIT :limit;

-- name: checkpoint_ancestors
-- The chain before a checkpoint, the nearest first; and of these channels the versions that a value is kept of.
WITH RECURSIVE chain (depth, id, parent, channels) AS (
    SELECT 0, id, parent, channels FROM checkpoints
    WHERE thread = :thread AND namespace = :namespace AND id = :id
    UNION ALL
    SELECT chain.depth + 1, c.id, c.parent, c.channels
    FROM chain CROSS JOIN checkpoints AS c
         ON c.thread = :thread AND c.namespace = :namespace AND c.id = chain.parent
            AND c.id < chain.id
)
SELECT chain.id, (
    SELECT json_group_object(v.channel, v.version)
    FROM json_each(:names) AS name
         CROSS JOIN json_each(chain.channels) AS j ON j.key = name.value
         CROSS JOIN checkpoint_values AS v
         ON v.thread = :thread AND v.namespace = :namespace AND v.channel = j.key AND v.version = j.value
)
FROM chain WHERE chain.depth > 0 ORDER BY chain.depth;

-- name: delete_checkpoints
DELETE FROM checkpoints WHERE thread = :thread;

-- name: delete_checkpoint_values
DELETE FROM checkpoint_values WHERE thread = :thread;

-- name: delete_checkpoint_writes
DELETE FROM checkpoint_writes WHERE thread = :thread;

-- name: checkpoints_of_runs
SELECT thread, namespace, id FROM checkpoints WHERE made_by IN (SELECT value FROM json_each(:runs));

-- name: checkpoints_before
SELECT thread, namespace, id FROM checkpoints
WHERE thread = :thread AND namespace = :namespace AND id < :before
      AND id NOT IN (SELECT value FROM json_each(:keep));

-- name: forget_checkpoint
DELETE FROM checkpoints WHERE thread = ? AND namespace = ? AND id = ?;

-- name: forget_writes
DELETE FROM checkpoint_writes WHERE thread = ? AND namespace = ? AND checkpoint = ?;

-- name: forget_values
-- What no checkpoint of the thread has any more.
DELETE FROM checkpoint_values
WHERE thread = :thread AND (namespace, channel, version) NOT IN (
    SELECT c.namespace, j.key, j.value FROM checkpoints AS c CROSS JOIN json_each(c.channels) AS j
    WHERE c.thread = :thread
);

-- name: copy_checkpoints
INSERT INTO checkpoints (thread, namespace, id, parent, made_by, channels, metadata, data)
SELECT :to, namespace, id, parent, made_by, channels, metadata, data FROM checkpoints WHERE thread = :thread
ON CONFLICT DO NOTHING;

-- name: copy_checkpoint_values
INSERT INTO checkpoint_values (thread, namespace, channel, version, data)
SELECT :to, namespace, channel, version, data FROM checkpoint_values WHERE thread = :thread
ON CONFLICT DO NOTHING;

-- name: copy_checkpoint_writes
INSERT INTO checkpoint_writes (thread, namespace, checkpoint, task, idx, channel, path, data)
SELECT :to, namespace, checkpoint, task, idx, channel, path, data FROM checkpoint_writes WHERE thread = :thread
ON CONFLICT DO NOTHING;
