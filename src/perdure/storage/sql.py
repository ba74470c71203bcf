"""Named queries: SQL lives in .sql files, and Python refers to it by name.

A folder of files holds them, a file for each story. A file is a series of queries. Each begins with
`-- name: some_name`, goes on with comment lines that say what it is for, and then the statement itself:

    -- name: owned
    -- (run, epoch) of every run a worker owns.
    SELECT run, epoch FROM runs WHERE owner = :worker;

What several queries have in common is a part, which begins with `-- part: some_name`; a line `-- with: some_name` in a
query stands for it.
"""

from __future__ import annotations

from pathlib import Path

from perdure.errors import ConfigurationError

_QUERY = "-- name:"
_PART = "-- part:"
_WITH = "-- with:"


def load_queries(folder: Path) -> dict[str, str]:
    """The queries of a folder's .sql files by name, without their comments and closing semicolons.

    Raises:
        ConfigurationError: two queries or parts have one name, one has none, or a part isn't there.
    """
    queries: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.sql")):
        lines: list[str] | None = None
        for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
            for mark, kind in ((_QUERY, queries), (_PART, parts)):
                if line.startswith(mark):
                    name = line.removeprefix(mark).strip()
                    if not name or name in kind:
                        raise ConfigurationError(
                            f"{path.name} names {name!r} twice or not at all; give each query its own name."
                        )
                    lines = kind[name] = []
            if lines is not None and line and (line.startswith(_WITH) or not line.startswith("--")):
                lines.append(line)
    return {name: _whole(lines, parts, name).removesuffix(";") for name, lines in queries.items()}


def _whole(lines: list[str], parts: dict[str, list[str]], name: str) -> str:
    """A query with its parts in their places."""
    text: list[str] = []
    for line in lines:
        if not line.startswith(_WITH):
            text.append(line)
        elif (part := line.removeprefix(_WITH).strip()) in parts:
            text.append(_whole(parts[part], parts, name))
        else:
            raise ConfigurationError(
                f"the query {name!r} is to be made with {part!r}, which is no part of any."
            )
    return "\n".join(text)
