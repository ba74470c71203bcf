-- What is kept sealed, a page at a time, to be sealed anew: the row's key, what its place is made of, and the bytes.

-- name: kept_events
SELECT t.run, t.seq, r.id, r.generation, t.link, (SELECT b.link FROM perdure.events AS b WHERE b.run = t.run AND b.seq
    = t.seq - 1), t.data
FROM perdure.events AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE (t.run, t.seq) > (%(a0)s::bigint, %(a1)s::bigint) AND t.data IS NOT NULL
ORDER BY t.run, t.seq LIMIT %(limit)s::bigint;

-- name: reseal_events
UPDATE perdure.events SET data = %(new)s::bytea
WHERE run = %(a0)s::bigint AND seq = %(a1)s::bigint AND data = %(old)s::bytea;

-- name: kept_mail
SELECT t.run, t.id, r.id, t.data
FROM perdure.inbox AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE (t.run, t.id) > (%(a0)s::bigint, %(a1)s::bigint) AND t.data IS NOT NULL
ORDER BY t.run, t.id LIMIT %(limit)s::bigint;

-- name: reseal_mail
UPDATE perdure.inbox SET data = %(new)s::bytea
WHERE run = %(a0)s::bigint AND id = %(a1)s::bigint AND data = %(old)s::bytea;

-- name: kept_details
SELECT t.run, t.step, r.id, t.data
FROM perdure.step_details AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE (t.run, t.step) > (%(a0)s::bigint, %(a1)s::text) AND t.data IS NOT NULL
ORDER BY t.run, t.step LIMIT %(limit)s::bigint;

-- name: reseal_details
UPDATE perdure.step_details SET data = %(new)s::bytea
WHERE run = %(a0)s::bigint AND step = %(a1)s::text AND data = %(old)s::bytea;

-- name: kept_questions
SELECT t.token_hash, r.id, t.question
FROM perdure.callbacks AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE t.token_hash > %(a0)s::bytea AND t.question IS NOT NULL
ORDER BY t.token_hash LIMIT %(limit)s::bigint;

-- name: reseal_questions
UPDATE perdure.callbacks SET question = %(new)s::bytea
WHERE token_hash = %(a0)s::bytea AND (question = %(old)s::bytea) IS TRUE;  -- so that no other index fits

-- name: kept_answers
SELECT t.token_hash, r.id, t.answer
FROM perdure.callbacks AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE t.token_hash > %(a0)s::bytea AND t.answer IS NOT NULL
ORDER BY t.token_hash LIMIT %(limit)s::bigint;

-- name: reseal_answers
UPDATE perdure.callbacks SET answer = %(new)s::bytea
WHERE token_hash = %(a0)s::bytea AND answer = %(old)s::bytea;

-- name: kept_items
SELECT t.stream, t.place, s.id, s.name, t.data
FROM perdure.stream_items AS t CROSS JOIN LATERAL (SELECT id, name FROM perdure.streams WHERE stream = t.stream OFFSET 0) AS s
WHERE (t.stream, t.place) > (%(a0)s::bigint, %(a1)s::bigint) AND t.data IS NOT NULL
ORDER BY t.stream, t.place LIMIT %(limit)s::bigint;

-- name: reseal_items
UPDATE perdure.stream_items SET data = %(new)s::bytea
WHERE stream = %(a0)s::bigint AND place = %(a1)s::bigint AND data = %(old)s::bytea;

-- name: kept_updates
SELECT t.run_id, t.id, t.answer
FROM perdure.updates AS t
WHERE (t.run_id, t.id) > (%(a0)s::text, %(a1)s::text) AND t.answer IS NOT NULL
ORDER BY t.run_id, t.id LIMIT %(limit)s::bigint;

-- name: reseal_updates
UPDATE perdure.updates SET answer = %(new)s::bytea
WHERE run_id = %(a0)s::text AND id = %(a1)s::text AND answer = %(old)s::bytea;

-- name: kept_schedules
SELECT t.name, t.data
FROM perdure.schedules AS t
WHERE t.name > %(a0)s::text AND t.data IS NOT NULL
ORDER BY t.name LIMIT %(limit)s::bigint;

-- name: reseal_schedules
UPDATE perdure.schedules SET data = %(new)s::bytea
WHERE name = %(a0)s::text AND data = %(old)s::bytea;

-- name: kept_publications
SELECT t.id, t.payload
FROM perdure.publications AS t
WHERE t.id > %(a0)s::text AND t.payload IS NOT NULL
ORDER BY t.id LIMIT %(limit)s::bigint;

-- name: reseal_publications
UPDATE perdure.publications SET payload = %(new)s::bytea
WHERE id = %(a0)s::text AND payload = %(old)s::bytea;

-- name: kept_gathered
SELECT t.workflow, t.grp, t.number, t.payload
FROM perdure.gathered AS t
WHERE (t.workflow, t.grp, t.number) > (%(a0)s::text, %(a1)s::text, %(a2)s::bigint) AND t.payload IS NOT NULL
ORDER BY t.workflow, t.grp, t.number LIMIT %(limit)s::bigint;

-- name: reseal_gathered
UPDATE perdure.gathered SET payload = %(new)s::bytea
WHERE workflow = %(a0)s::text AND grp = %(a1)s::text AND number = %(a2)s::bigint AND payload = %(old)s::bytea;

-- name: kept_money
SELECT t.run, t.step, r.id, t.mail
FROM perdure.budget_waits AS t CROSS JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = t.run OFFSET 0) AS r
WHERE (t.run, t.step) > (%(a0)s::bigint, %(a1)s::text) AND t.mail IS NOT NULL
ORDER BY t.run, t.step LIMIT %(limit)s::bigint;

-- name: reseal_money
UPDATE perdure.budget_waits SET mail = %(new)s::bytea
WHERE run = %(a0)s::bigint AND step = %(a1)s::text AND mail = %(old)s::bytea;

-- name: kept_metadata
SELECT t.thread, t.namespace, t.id, t.metadata
FROM perdure.checkpoints AS t
WHERE (t.thread, t.namespace, t.id) > (%(a0)s::text, %(a1)s::text, %(a2)s::text) AND t.metadata IS NOT NULL
ORDER BY t.thread, t.namespace, t.id LIMIT %(limit)s::bigint;

-- name: reseal_metadata
UPDATE perdure.checkpoints SET metadata = %(new)s::bytea
WHERE thread = %(a0)s::text AND namespace = %(a1)s::text AND id = %(a2)s::text AND metadata = %(old)s::bytea;

-- name: kept_checkpoints
SELECT t.thread, t.namespace, t.id, t.data
FROM perdure.checkpoints AS t
WHERE (t.thread, t.namespace, t.id) > (%(a0)s::text, %(a1)s::text, %(a2)s::text) AND t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.id LIMIT %(limit)s::bigint;

-- name: reseal_checkpoints
UPDATE perdure.checkpoints SET data = %(new)s::bytea
WHERE thread = %(a0)s::text AND namespace = %(a1)s::text AND id = %(a2)s::text AND data = %(old)s::bytea;

-- name: kept_channels
SELECT t.thread, t.namespace, t.channel, t.version, t.data
FROM perdure.checkpoint_values AS t
WHERE (t.thread, t.namespace, t.channel, t.version) > (%(a0)s::text, %(a1)s::text, %(a2)s::text, %(a3)s::text) AND
    t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.channel, t.version LIMIT %(limit)s::bigint;

-- name: reseal_channels
UPDATE perdure.checkpoint_values SET data = %(new)s::bytea
WHERE thread = %(a0)s::text AND namespace = %(a1)s::text AND channel = %(a2)s::text AND version = %(a3)s::text AND
    data = %(old)s::bytea;

-- name: kept_writes
SELECT t.thread, t.namespace, t.checkpoint, t.task, t.idx, t.channel, t.data
FROM perdure.checkpoint_writes AS t
WHERE (t.thread, t.namespace, t.checkpoint, t.task, t.idx) > (%(a0)s::text, %(a1)s::text, %(a2)s::text, %(a3)s::text,
    %(a4)s::bigint) AND t.data IS NOT NULL
ORDER BY t.thread, t.namespace, t.checkpoint, t.task, t.idx LIMIT %(limit)s::bigint;

-- name: reseal_writes
UPDATE perdure.checkpoint_writes SET data = %(new)s::bytea
WHERE thread = %(a0)s::text AND namespace = %(a1)s::text AND checkpoint = %(a2)s::text AND task = %(a3)s::text AND idx
    = %(a4)s::bigint AND data = %(old)s::bytea;

-- name: kept_reasons
SELECT t.run, t.id, t.reason
FROM perdure.runs AS t
WHERE t.run > %(a0)s::bigint AND t.reason LIKE 'sealed:%%'
ORDER BY t.run LIMIT %(limit)s::bigint;

-- name: reseal_reasons
UPDATE perdure.runs SET reason = %(new)s::text
WHERE run = %(a0)s::bigint AND reason = %(old)s::text;
