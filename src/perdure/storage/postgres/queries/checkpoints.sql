-- Checkpoints of graphs.

-- name: put_checkpoint
INSERT INTO perdure.checkpoints (thread, namespace, id, parent, made_by, channels, metadata, data)
VALUES (%(thread)s::text, %(namespace)s::text, %(id)s::text, %(parent)s::text, %(made_by)s::text, %(channels)s::jsonb,
        %(metadata)s::bytea, %(data)s::bytea)
ON CONFLICT (thread, namespace, id) DO UPDATE
SET parent = excluded.parent, made_by = excluded.made_by, channels = excluded.channels, metadata = excluded.metadata,
    data = excluded.data;

-- name: put_value
INSERT INTO perdure.checkpoint_values (thread, namespace, channel, version, data)
VALUES (%s::text, %s::text, %s::text, %s::text, %s::bytea)
ON CONFLICT (thread, namespace, channel, version) DO NOTHING;

-- name: put_write
-- What was written first stays, but for those below 0.
INSERT INTO perdure.checkpoint_writes (thread, namespace, checkpoint, task, idx, channel, path, data)
VALUES (%s::text, %s::text, %s::text, %s::text, %s::bigint, %s::text, %s::text, %s::bytea)
ON CONFLICT (thread, namespace, checkpoint, task, idx) DO UPDATE
SET channel = excluded.channel, path = excluded.path, data = excluded.data WHERE excluded.idx < 0;

-- name: checkpoint
SELECT thread, namespace, id, parent, made_by, channels, metadata, data FROM perdure.checkpoints
WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text AND id = %(id)s::text;

-- name: newest_checkpoint
SELECT thread, namespace, id, parent, made_by, channels, metadata, data FROM perdure.checkpoints
WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text ORDER BY id DESC LIMIT 1;

-- name: values_of_checkpoint
SELECT v.channel, v.version, v.data
FROM jsonb_each_text(%(channels)s::jsonb) AS c (key, value) CROSS JOIN LATERAL (
    SELECT channel, version, data FROM perdure.checkpoint_values  -- or all versions of the thread might be read
    WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text AND channel = c.key AND version = c.value
    OFFSET 0
) AS v
ORDER BY v.channel;

-- name: writes_of_checkpoint
SELECT task, idx, channel, path, data FROM perdure.checkpoint_writes
WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text AND checkpoint = %(id)s::text
ORDER BY path, task, idx;

-- name: checkpoint_heads
SELECT thread, namespace, id, metadata FROM perdure.checkpoints
WHERE (%(namespace)s::text IS NULL OR namespace = %(namespace)s::text)
      AND (%(id)s::text IS NULL OR id = %(id)s::text)
      AND (%(before)s::text IS NULL OR id < %(before)s::text)
      AND (%(after)s::text IS NULL
           OR (id, thread, namespace) < (%(after)s::text, %(after_thread)s::text, %(after_namespace)s::text))
ORDER BY id DESC, thread DESC, namespace DESC LIMIT %(limit)s::bigint;

-- name: checkpoint_heads_of_thread
SELECT thread, namespace, id, metadata FROM perdure.checkpoints
WHERE thread = %(thread)s::text AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s::text)
      AND (%(id)s::text IS NULL OR id = %(id)s::text)
      AND (%(before)s::text IS NULL OR id < %(before)s::text)
      AND (%(after)s::text IS NULL
           OR (id, thread, namespace) < (%(after)s::text, %(after_thread)s::text, %(after_namespace)s::text))
ORDER BY id DESC, thread DESC, namespace DESC LIMIT %(limit)s::bigint;

-- name: checkpoint_ancestors
-- The chain before a checkpoint, the nearest first; and of these channels the versions that a value is kept of.
WITH RECURSIVE chain (depth, id, parent, channels) AS (
    SELECT 0, id, parent, channels FROM perdure.checkpoints
    WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text AND id = %(id)s::text
    UNION ALL
    SELECT chain.depth + 1, c.id, c.parent, c.channels
    FROM chain CROSS JOIN LATERAL (
        SELECT id, parent, channels FROM perdure.checkpoints
        WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text
          AND id = chain.parent AND id < chain.id
        OFFSET 0
    ) AS c
)
SELECT chain.id, (
    SELECT jsonb_object_agg(v.channel, v.version)
    FROM jsonb_each_text(chain.channels) AS j (key, value) CROSS JOIN LATERAL (
        SELECT channel, version FROM perdure.checkpoint_values
        WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text
          AND channel = j.key AND version = j.value
        OFFSET 0
    ) AS v
    WHERE j.key = ANY (%(names)s::text[])
)
FROM chain WHERE chain.depth > 0 ORDER BY chain.depth;

-- name: delete_checkpoints
DELETE FROM perdure.checkpoints WHERE thread = %(thread)s::text;

-- name: delete_checkpoint_values
DELETE FROM perdure.checkpoint_values WHERE thread = %(thread)s::text;

-- name: delete_checkpoint_writes
DELETE FROM perdure.checkpoint_writes WHERE thread = %(thread)s::text;

-- name: checkpoints_of_runs
SELECT thread, namespace, id FROM perdure.checkpoints WHERE made_by = ANY (%(runs)s::text[]);

-- name: checkpoints_before
SELECT thread, namespace, id FROM perdure.checkpoints
WHERE thread = %(thread)s::text AND namespace = %(namespace)s::text AND id < %(before)s::text
      AND NOT id = ANY (%(keep)s::text[]);

-- name: forget_checkpoint
DELETE FROM perdure.checkpoints WHERE thread = %s::text AND namespace = %s::text AND id = %s::text;

-- name: forget_writes
DELETE FROM perdure.checkpoint_writes WHERE thread = %s::text AND namespace = %s::text AND checkpoint = %s::text;

-- name: forget_values
-- What no checkpoint of the thread has any more.
DELETE FROM perdure.checkpoint_values
WHERE thread = %(thread)s::text AND (namespace, channel, version) NOT IN (
    SELECT c.namespace, j.key, j.value FROM perdure.checkpoints AS c
         CROSS JOIN LATERAL jsonb_each_text(c.channels) AS j (key, value)
    WHERE c.thread = %(thread)s::text
);

-- name: copy_checkpoints
INSERT INTO perdure.checkpoints (thread, namespace, id, parent, made_by, channels, metadata, data)
SELECT %(to)s::text, namespace, id, parent, made_by, channels, metadata, data
FROM perdure.checkpoints WHERE thread = %(thread)s::text
ON CONFLICT (thread, namespace, id) DO NOTHING;

-- name: copy_checkpoint_values
INSERT INTO perdure.checkpoint_values (thread, namespace, channel, version, data)
SELECT %(to)s::text, namespace, channel, version, data
FROM perdure.checkpoint_values WHERE thread = %(thread)s::text
ON CONFLICT (thread, namespace, channel, version) DO NOTHING;

-- name: copy_checkpoint_writes
INSERT INTO perdure.checkpoint_writes (thread, namespace, checkpoint, task, idx, channel, path, data)
SELECT %(to)s::text, namespace, checkpoint, task, idx, channel, path, data
FROM perdure.checkpoint_writes WHERE thread = %(thread)s::text
ON CONFLICT (thread, namespace, checkpoint, task, idx) DO NOTHING;
