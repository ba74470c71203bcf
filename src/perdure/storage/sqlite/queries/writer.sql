-- What the writer thread needs for itself.

-- name: is_empty
-- Whether the file is new: nothing has been created in it.
SELECT count(*) = 0 FROM sqlite_schema;

-- name: mark_commit
-- Written with each transaction that can't recognise itself otherwise.
INSERT INTO commits (writer, number, at) VALUES (:writer, :number, unixepoch())
ON CONFLICT (writer) DO UPDATE SET number = excluded.number, at = excluded.at;

-- name: marked_commit
SELECT number FROM commits WHERE writer = :writer;

-- name: forget_commits
-- Of writers that are gone: an outcome is asked for within seconds.
DELETE FROM commits WHERE at < unixepoch() - 86400;

-- name: data_version
-- Changes whenever another connection has committed something.
PRAGMA data_version;
