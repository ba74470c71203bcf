"""Named queries: SQL lives in .sql files, and Python refers to it by name.

A folder of files holds them, a file for each story. A file is a series of queries. Each begins with
`-- name: some_name`, goes on with comment lines that say what it is for, and then the statement itself:

    -- name: owned
    -- (run, epoch) of every run a worker owns.
    SELECT run, epoch FROM runs WHERE owner = :worker;
"""

from __future__ import annotations

from pathlib import Path

from perdure.errors import ConfigurationError

_MARK = "-- name:"


def load_queries(folder: Path) -> dict[str, str]:
    """The queries of a folder's .sql files by name, without their comments and closing semicolons.

    Raises:
        ConfigurationError: two queries have one name, or one has none.
    """
    queries: dict[str, str] = {}
    for path in sorted(folder.glob("*.sql")):
        name = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith(_MARK):
                name = line.removeprefix(_MARK).strip()
                if not name or name in queries:
                    raise ConfigurationError(
                        f"{path.name} names the query {name!r} twice or not at all; give each query its own name."
                    )
                queries[name] = ""
            elif name and line.strip() and not line.lstrip().startswith("--"):
                queries[name] += line.strip() + "\n"
    return {name: text.strip().removesuffix(";") for name, text in queries.items()}
