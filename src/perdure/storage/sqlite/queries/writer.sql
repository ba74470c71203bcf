-- What the writer thread needs for itself.

-- name: is_empty
-- Whether the file is new: nothing has been created in it.
SELECT count(*) = 0 FROM sqlite_schema;

-- name: oldest_code
-- Who can use the file's schema; a file that doesn't say is for the code that knows all of it.
SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'oldest_code_of_schema_' || :version;

-- name: set_oldest_code
INSERT INTO meta (name, value) VALUES ('oldest_code_of_schema_' || ?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: older_workers
-- Live workers whose code couldn't use the schema that is to come.
SELECT name, schema FROM workers WHERE schema < :oldest_code AND lease_until > unixepoch('subsec') LIMIT 1;

-- name: statistics
-- What somebody's ANALYZE, or PRAGMA optimize, has left.
SELECT name FROM sqlite_schema WHERE name IN ('sqlite_stat1', 'sqlite_stat4');

-- name: mark_commit
-- Written with each transaction that can't recognise itself otherwise.
INSERT INTO commits (writer, number, at) VALUES (:writer, :number, unixepoch())
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at;

-- name: marked_commit
SELECT number FROM commits WHERE writer = :writer;

-- name: mark_repair
-- Anything that is written after an I/O error, so that it takes the place of what the error may have left in the log.
INSERT INTO commits (writer, number, at) VALUES (-1, 1, unixepoch())
ON CONFLICT (writer) DO UPDATE SET number = number + 1, at = excluded.at;

-- name: forget_commits
-- Of writers that are gone: an outcome is asked for within seconds.
DELETE FROM commits WHERE at < unixepoch() - 86400;

-- name: data_version
-- Changes whenever another connection has committed something.
PRAGMA data_version;
