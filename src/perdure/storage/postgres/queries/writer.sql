-- What the store needs for itself.

-- name: mark_commit
-- The first statement of a transaction that mustn't happen twice. Waits for the end of one with the same mark.
INSERT INTO perdure.commits (writer, number) VALUES (%(writer)s::bigint, %(number)s::bigint)
ON CONFLICT (writer, number) DO NOTHING;

-- name: forget_commits
-- An outcome is asked for within minutes.
DELETE FROM perdure.commits WHERE at < now() - interval '1 day';

-- name: settings
SELECT current_setting('synchronous_commit'), current_setting('fsync'), current_setting('server_version_num'),
       pg_backend_pid();

-- name: has_schema
-- From the catalogue itself: to_regclass would answer from a cache what was so before the wait for the lock.
SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'perdure' AND tablename = 'meta');

-- name: schema_version
SELECT value::bigint FROM perdure.meta WHERE name = 'schema_version';

-- name: set_schema_version
INSERT INTO perdure.meta (name, value) VALUES ('schema_version', %(version)s::text)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;
