-- What is kept sealed, a page at a time, to be sealed anew: the row's key, what its place is made of, and the bytes.

-- name: kept_events
SELECT t.run, t.seq, r.id, r.generation, t.link, (SELECT b.link FROM events AS b WHERE b.run = t.run AND b.seq = t.seq
    - 1), t.data
FROM events AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE (t.run, t.seq) > (:a0, :a1) AND t.data IS NOT NULL
ORDER BY t.run, t.seq LIMIT :limit;

-- name: reseal_events
UPDATE events SET data = :new
WHERE run = :a0 AND seq = :a1 AND data = :old;

-- name: kept_mail
SELECT t.id, r.id, t.data
FROM inbox AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE t.id > :a0 AND t.data IS NOT NULL
ORDER BY t.id LIMIT :limit;

-- name: reseal_mail
UPDATE inbox SET data = :new
WHERE id = :a0 AND data = :old;

-- name: kept_details
SELECT t.run, t.step, r.id, t.data
FROM step_details AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE (t.run, t.step) > (:a0, :a1) AND t.data IS NOT NULL
ORDER BY t.run, t.step LIMIT :limit;

-- name: reseal_details
UPDATE step_details SET data = :new
WHERE run = :a0 AND step = :a1 AND data = :old;

-- name: kept_questions
SELECT t.token_hash, r.id, t.question
FROM callbacks AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE t.token_hash > :a0 AND t.question IS NOT NULL
ORDER BY t.token_hash LIMIT :limit;

-- name: reseal_questions
UPDATE callbacks SET question = :new
WHERE token_hash = :a0 AND question = :old;

-- name: kept_answers
SELECT t.token_hash, r.id, t.answer
FROM callbacks AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE t.token_hash > :a0 AND t.answer IS NOT NULL
ORDER BY t.token_hash LIMIT :limit;

-- name: reseal_answers
UPDATE callbacks SET answer = :new
WHERE token_hash = :a0 AND answer = :old;

-- name: kept_items
SELECT t.stream, t.offset, s.id, s.name, t.data
FROM stream_items AS t CROSS JOIN streams AS s ON s.stream = t.stream
WHERE (t.stream, t.offset) > (:a0, :a1) AND t.data IS NOT NULL
ORDER BY t.stream, t.offset LIMIT :limit;

-- name: reseal_items
UPDATE stream_items SET data = :new
WHERE stream = :a0 AND offset = :a1 AND data = :old;

-- name: kept_updates
SELECT t.run_id, t.id, t.answer
FROM updates AS t
WHERE (t.run_id, t.id) > (:a0, :a1) AND t.answer IS NOT NULL
ORDER BY t.run_id, t.id LIMIT :limit;

-- name: reseal_updates
UPDATE updates SET answer = :new
WHERE run_id = :a0 AND id = :a1 AND answer = :old;

-- name: kept_schedules
SELECT t.name, t.data
FROM schedules AS t
WHERE t.name > :a0 AND t.data IS NOT NULL
ORDER BY t.name LIMIT :limit;

-- name: reseal_schedules
UPDATE schedules SET data = :new
WHERE name = :a0 AND data = :old;

-- name: kept_publications
SELECT t.id, t.payload
FROM publications AS t
WHERE t.id > :a0 AND t.payload IS NOT NULL
ORDER BY t.id LIMIT :limit;

-- name: reseal_publications
UPDATE publications SET payload = :new
WHERE id = :a0 AND payload = :old;

-- name: kept_gathered
SELECT t.workflow, t.grp, t.number, t.payload
FROM gathered AS t
WHERE (t.workflow, t.grp, t.number) > (:a0, :a1, :a2) AND t.payload IS NOT NULL
ORDER BY t.workflow, t.grp, t.number LIMIT :limit;

-- name: reseal_gathered
UPDATE gathered SET payload = :new
WHERE workflow = :a0 AND grp = :a1 AND number = :a2 AND payload = :old;

-- name: kept_money
SELECT t.run, t.step, r.id, t.mail
FROM budget_waits AS t CROSS JOIN runs AS r ON r.run = t.run
WHERE (t.run, t.step) > (:a0, :a1) AND t.mail IS NOT NULL
ORDER BY t.run, t.step LIMIT :limit;

-- name: reseal_money
UPDATE budget_waits SET mail = :new
WHERE run = :a0 AND step = :a1 AND mail = :old;

-- name: kept_metadata
SELECT t.thread, t.namespace, t.id, t.metadata
FROM checkpoints AS t
WHERE (t.thread, t.namespace, t.id) > (:a0, :a1, :a2) AND t.metadata IS NOT NULL
ORDER BY t.thread, t.namespace, t.id LIMIT :limit;

-- name: reseal_metadata
UPDATE checkpoints SET metadata = :new
WHERE thread = :a0 AND namespace = :a1 AND id = :a2 AND metadata = :old;

-- name: kept_checkpoints
SELECT t.thread, t.namespace, t.id, t.data
FROM checkpoints AS t
WHERE (t.thread, t.namespace, t.id) > (:a0, :a1, :a2) AND t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.id LIMIT :limit;

-- name: reseal_checkpoints
UPDATE checkpoints SET data = :new
WHERE thread = :a0 AND namespace = :a1 AND id = :a2 AND data = :old;

-- name: kept_channels
SELECT t.thread, t.namespace, t.channel, t.version, t.data
FROM checkpoint_values AS t
WHERE (t.thread, t.namespace, t.channel, t.version) > (:a0, :a1, :a2, :a3) AND t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.channel, t.version LIMIT :limit;

-- name: reseal_channels
UPDATE checkpoint_values SET data = :new
WHERE thread = :a0 AND namespace = :a1 AND channel = :a2 AND version = :a3 AND data = :old;

-- name: kept_writes
SELECT t.thread, t.namespace, t.checkpoint, t.task, t.idx, t.channel, t.data
FROM checkpoint_writes AS t
WHERE (t.thread, t.namespace, t.checkpoint, t.task, t.idx) > (:a0, :a1, :a2, :a3, :a4) AND t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.checkpoint, t.task, t.idx LIMIT :limit;

-- name: reseal_writes
UPDATE checkpoint_writes SET data = :new
WHERE thread = :a0 AND namespace = :a1 AND checkpoint = :a2 AND task = :a3 AND idx = :a4 AND data = :old;

-- name: kept_reasons
SELECT t.run, t.id, t.reason
FROM runs AS t
WHERE t.run > :a0 AND t.reason LIKE 'sealed:%'
ORDER BY t.run LIMIT :limit;

-- name: reseal_reasons
UPDATE runs SET reason = :new
WHERE run = :a0 AND reason = :old;
