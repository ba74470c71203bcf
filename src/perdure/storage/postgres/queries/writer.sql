-- What the store needs for itself.

-- name: mark_commit
-- The first statement of a transaction that mustn't happen twice. Waits for the end of one with the same mark.
INSERT INTO perdure.commits (writer, number) VALUES (%(writer)s::bigint, %(number)s::bigint)
ON CONFLICT (writer, number) DO NOTHING;

-- name: forget_commits
-- An outcome is asked for within minutes.
DELETE FROM perdure.commits WHERE at < now() - interval '1 day';

-- name: settings
-- Not every engine has them all.
SELECT current_setting('synchronous_commit', true), current_setting('fsync', true),
       current_setting('server_version_num'),
       pg_backend_pid();

-- name: has_schema
-- From the catalogue itself: to_regclass would answer from a cache what was so before the wait for the lock.
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'perdure' AND tablename = 'meta');

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS perdure;

-- name: create_meta
CREATE TABLE IF NOT EXISTS perdure.meta (name text PRIMARY KEY, value text NOT NULL);

-- name: begin_schema
-- The rows by which processes that migrate agree.
INSERT INTO perdure.meta (name, value) VALUES ('schema_version', '0'), ('migrating', '')
ON CONFLICT (name) DO NOTHING;

-- name: schema_version
-- And which code can use it; a database that doesn't say is for the code that knows all of it.
SELECT s.value::bigint, o.value::bigint
FROM perdure.meta AS s LEFT JOIN perdure.meta AS o ON o.name = 'oldest_code_of_schema_' || s.value
WHERE s.name = 'schema_version';

-- name: hold_migrating
-- Whoever migrates holds this row. The others look again instead of waiting in here: an index that is built while
-- everybody works waits for statements that began before it.
SELECT name FROM perdure.meta WHERE name = 'migrating' FOR UPDATE SKIP LOCKED;

-- name: set_schema_version
UPDATE perdure.meta SET value = %(version)s::text WHERE name = 'schema_version' AND value = %(before)s::text;

-- name: set_oldest_code
INSERT INTO perdure.meta (name, value) VALUES ('oldest_code_of_schema_' || %(version)s::text, %(oldest_code)s::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: older_workers
-- Live workers whose code couldn't use the schema that is to come.
SELECT name, schema FROM perdure.workers
WHERE schema < %(oldest_code)s::bigint AND lease_until > extract(epoch FROM now()) LIMIT 1;
