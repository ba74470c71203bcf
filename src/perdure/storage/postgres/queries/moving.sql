-- Moving runs to other databases, and from them.

-- name: mark
SELECT token, url, done FROM perdure.moves;

-- name: begin_move
INSERT INTO perdure.moves (one, token, url, done) VALUES (1, %(token)s, %(url)s, false) ON CONFLICT (one) DO NOTHING;

-- name: outdate_schedules
-- Whoever is about to fire one changes nothing.
UPDATE perdure.schedules SET version = version + 1;

-- name: give_up_move
DELETE FROM perdure.moves WHERE token = %(token)s AND NOT done;

-- name: lock_move
SELECT done FROM perdure.moves WHERE token = %(token)s FOR UPDATE;

-- name: finish_move
UPDATE perdure.moves SET done = true WHERE token = %(token)s;

-- name: lock_everything
-- Whoever changes a run or what belongs to it locks its row first.
SELECT run FROM perdure.runs ORDER BY run FOR UPDATE;

-- name: lock_callbacks
SELECT token_hash FROM perdure.callbacks WHERE state = 'open' ORDER BY token_hash FOR UPDATE;

-- name: lock_schedules
SELECT name, version FROM perdure.schedules ORDER BY name FOR UPDATE;

-- name: stamps
-- All that can change of a run while nobody drives it.
SELECT r.id, p.id, r.seq, r.owner, r.ended_at, r.generation, r.epoch, r.mail, r.mail_number, r.status, r.updated_at,
       r.paused, r.wake_at, (SELECT max(c.heard_at) FROM perdure.callbacks AS c WHERE c.run = r.run)
FROM perdure.runs AS r LEFT JOIN perdure.runs AS p ON p.run = r.parent
ORDER BY r.run;

-- name: live_runs
SELECT run FROM perdure.runs WHERE ended_at IS NULL ORDER BY run;

-- name: numbered
-- Every generation of these ids.
SELECT r.id, r.generation, r.run FROM perdure.runs AS r WHERE r.id = ANY (%(ids)b::text[]);

-- name: lock_runs_of
SELECT run FROM perdure.runs WHERE id = ANY (%(ids)b::text[]) ORDER BY run + 0 FOR UPDATE;  -- no index has this order

-- name: held_for
-- Which of these runs came with a move and are as they came, but for mail.
SELECT a.run
FROM perdure.arrivals AS a CROSS JOIN LATERAL (SELECT next, owner FROM perdure.runs WHERE run = a.run OFFSET 0) AS r
WHERE a.run = ANY (%(runs)b::bigint[]) AND a.token = %(token)s AND r.next IS NULL AND (r.owner = 0 OR a.mail = -1);

-- name: pack_runs
SELECT r.run, r.id, r.generation, r.workflow, r.status, r.queue, r.fingerprint, r.seq, r.chain, r.created_at, r.updated_at,
       r.started_at, r.ended_at,
       CASE WHEN r.owner = 0 THEN a.wake_at WHEN r.owner IS NULL THEN r.wake_at ELSE r.updated_at END,
       r.recoveries, r.semantics, r.reason, r.block_code, p.id, p.generation, r.parent_op, r.on_parent_close,
       r.version, r.pinned, r.paused, r.misfits, r.checkpoint, r.key, r.priority, r.dedup
FROM perdure.runs AS r
     LEFT JOIN LATERAL (SELECT id, generation FROM perdure.runs WHERE run = r.parent OFFSET 0) AS p ON true
     LEFT JOIN LATERAL (SELECT wake_at FROM perdure.arrivals WHERE run = r.run OFFSET 0) AS a ON true
WHERE r.run = ANY (%(runs)b::bigint[]);

-- name: pack_events
SELECT run, seq, link, data FROM perdure.events WHERE run = ANY (%(runs)b::bigint[]) ORDER BY run, seq;

-- name: pack_inbox
SELECT run, kind, data FROM perdure.inbox WHERE run = ANY (%(runs)b::bigint[]) ORDER BY run, id;

-- name: pack_mail_keys
SELECT run, key FROM perdure.mail_keys WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_step_details
SELECT run, step, data, at FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_callbacks
SELECT run, token_hash, op, opened_at, expires_at, heartbeat, heard_at, state, ended_at, question, answer
FROM perdure.callbacks WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_usage
-- Nobody executes anything while runs are moved: what is open is unknown.
SELECT run, id, CASE state WHEN 'open' THEN 'unknown' ELSE state END, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output, cached, written, reasoning, cost, price, spared, counted
FROM perdure.usage WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_attributes
SELECT run, name, place, family, text FROM perdure.attributes WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_donors
SELECT run, donor FROM perdure.donors WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_patches
SELECT run, change FROM perdure.patches WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_publication_waits
SELECT run, op, name, condition, since, after FROM perdure.publication_waits WHERE run = ANY (%(runs)b::bigint[]);

-- name: pack_updates
SELECT run, id, call, state, answer FROM perdure.updates WHERE run_id = ANY (%(ids)b::text[]);

-- name: pack_streams
SELECT stream, id, name FROM perdure.streams WHERE id = ANY (%(ids)b::text[]);

-- name: pack_items
SELECT i.stream, i.place, i.at, i.run, i.step, i.attempt, i.data, i.since
FROM perdure.stream_items AS i
WHERE i.stream = ANY (ARRAY(SELECT s.stream FROM perdure.streams AS s WHERE s.id = ANY (%(ids)b::text[])));

-- name: pack_stream_writers
SELECT run, step, stream, attempt, first, last, superseded, open
FROM perdure.stream_writers WHERE run = ANY (%(runs)b::bigint[]);

-- name: put_ids
INSERT INTO perdure.ids (id, run) VALUES (%s, %s::bigint);

-- name: put_runs
INSERT INTO perdure.runs (
    run, id, generation, seq, epoch, owner, mail, mail_number, parent, next, workflow, status, queue, fingerprint,
    chain, created_at, updated_at, started_at, ended_at, wake_at, recoveries, semantics, reason, block_code, parent_op,
    on_parent_close, version, pinned, paused, misfits, checkpoint, key, priority, dedup
) VALUES (
    %s::bigint, %s, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint,
    %s, %s, %s, %s::bytea, %s::bigint, %s::double precision, %s::double precision, %s::double precision, %s::double precision,
    %s::double precision, %s::bigint, %s::bigint, %s::text, %s::text, %s::text, %s, %s::text, %s::boolean,
    %s::double precision, %s::text[], %s::bigint, %s::text, %s::bigint, %s::text
);

-- name: put_events
INSERT INTO perdure.events (run, seq, link, data) VALUES (%s::bigint, %s::bigint, %s::bigint, %s::bytea);

-- name: put_inbox
INSERT INTO perdure.inbox (run, id, kind, data) VALUES (%s::bigint, %s::bigint, %s, %s::bytea);

-- name: put_mail_keys
INSERT INTO perdure.mail_keys (run, key) VALUES (%s::bigint, %s);

-- name: put_step_details
INSERT INTO perdure.step_details (run, step, data, at) VALUES (%s::bigint, %s, %s::bytea, %s::double precision);

-- name: put_callbacks
-- A token that is known here belongs to the run that had it first.
INSERT INTO perdure.callbacks (
    run, token_hash, op, opened_at, expires_at, heartbeat, heard_at, state, ended_at, question, answer
) VALUES (
    %s::bigint, %s::bytea, %s, %s::double precision, %s::double precision, %s::double precision,
    %s::double precision, %s, %s::double precision, %s::bytea, %s::bytea
)
ON CONFLICT (token_hash) DO NOTHING;

-- name: put_usage
INSERT INTO perdure.usage (
    run, id, state, step, name, attempt, at, epoch, errand, workflow, key, model, provider, response, input, output,
    cached, written, reasoning, cost, price, spared, counted
) VALUES (
    %s::bigint, %s::bigint, %s::text, %s::text, %s::text, %s::bigint,
    %s::double precision, %s::bigint, %s::text, %s::text, %s::text, %s::text,
    %s::text, %s::text, %s::bigint, %s::bigint, %s::bigint, %s::bigint,
    %s::bigint, %s::bigint, %s::text, %s::bigint, %s::boolean);

-- name: put_attributes
INSERT INTO perdure.attributes (run, name, place, family, text, number)
VALUES (%s::bigint, %s, %s::bigint, %s, %s, %s::numeric);

-- name: put_patches
INSERT INTO perdure.patches (run, change) VALUES (%s::bigint, %s);

-- name: put_publication_waits
-- They look back in the database to which they have come.
INSERT INTO perdure.publication_waits (run, op, name, condition, fields, match, since, after, fresh)
VALUES (%s::bigint, %s, %s, %s, %s, %s::bytea, %s::double precision, %s::bigint, true);

-- name: put_publication_shapes
INSERT INTO perdure.publication_shapes (name, fields) VALUES (%s, %s) ON CONFLICT (name, fields) DO NOTHING;

-- name: put_updates
INSERT INTO perdure.updates (run, run_id, id, call, state, answer)
VALUES (%s::bigint, %s, %s, %s::bytea, %s, %s::bytea);

-- name: put_donors
INSERT INTO perdure.donors (run, donor) VALUES (%s::bigint, %s);

-- name: put_streams
INSERT INTO perdure.streams (stream, id, name, size) VALUES (%s::bigint, %s, %s, %s::bigint);

-- name: put_stream_items
INSERT INTO perdure.stream_items (stream, place, at, run, step, attempt, data, since)
VALUES (%s::bigint, %s::bigint, %s::double precision, %s::bigint, %s::text, %s::bigint, %s::bytea, %s::bigint);

-- name: put_stream_writers
INSERT INTO perdure.stream_writers (run, step, stream, attempt, first, last, superseded, open)
VALUES (%s::bigint, %s, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::bigint, %s::boolean);

-- name: put_arrivals
INSERT INTO perdure.arrivals (run, wake_at, mail, token) VALUES (%s::bigint, %s::double precision, %s::bigint, %s);

-- name: some_arrivals
SELECT run FROM perdure.arrivals WHERE token = %(token)s ORDER BY run LIMIT %(limit)s::bigint FOR UPDATE;

-- name: let_go
-- Held runs are as they were; mail that came meanwhile wakes them as usual.
UPDATE perdure.runs AS r
SET owner = NULL,
    wake_at = CASE
        WHEN r.mail > a.mail AND r.status <> 'paused' AND (r.status <> 'blocked' OR r.block_code = 'step')
             AND NOT (r.status = 'queued' AND a.wake_at IS NOT NULL) THEN %(now)s::double precision
        ELSE a.wake_at END
FROM perdure.arrivals AS a
WHERE a.run = ANY (%(runs)b::bigint[]) AND r.run = ANY (%(runs)b::bigint[]) AND r.run = a.run
  AND (r.owner = 0) IS TRUE;

-- name: arrivals
SELECT DISTINCT r.id FROM perdure.arrivals AS a JOIN perdure.runs AS r ON r.run = a.run WHERE a.token = %(token)s;

-- name: erase_runs
DELETE FROM perdure.runs WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_events
DELETE FROM perdure.events WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_inbox
DELETE FROM perdure.inbox WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_mail_keys
DELETE FROM perdure.mail_keys WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_publication_waits
DELETE FROM perdure.publication_waits WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_step_details
DELETE FROM perdure.step_details WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_callbacks
DELETE FROM perdure.callbacks WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_usage
DELETE FROM perdure.usage WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_attributes
DELETE FROM perdure.attributes WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_patches
DELETE FROM perdure.patches WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_donors
DELETE FROM perdure.donors WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_stream_writers
DELETE FROM perdure.stream_writers WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_arrivals
DELETE FROM perdure.arrivals WHERE run = ANY (%(runs)b::bigint[]);

-- name: erase_updates
DELETE FROM perdure.updates WHERE run_id = ANY (%(ids)b::text[]);

-- name: erase_items
DELETE FROM perdure.stream_items
WHERE stream = ANY (ARRAY(SELECT s.stream FROM perdure.streams AS s WHERE s.id = ANY (%(ids)b::text[])));

-- name: erase_streams
DELETE FROM perdure.streams WHERE id = ANY (%(ids)b::text[]);

-- name: erase_ids
DELETE FROM perdure.ids WHERE id = ANY (%(ids)b::text[]);
