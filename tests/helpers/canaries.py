"""Secrets that sing: values which must be nowhere but where they are used, and the search for them.

A needle is looked for as it is, and as JSON, URLs, base64 and hex would carry it.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql


def forms(value: str) -> set[bytes]:
    """A value as bytes may hold it."""
    raw = value.encode()
    found = {
        raw,
        quote(value, safe="").encode(),
        json.dumps(value)[1:-1].encode(),
        json.dumps(value, ensure_ascii=False)[1:-1].encode(),
        repr(value)[1:-1].encode(),
        raw.hex().encode(),
    }
    for shift in range(3):  # wherever in a longer text it began
        encoded = base64.b64encode(b"x" * shift + raw).rstrip(b"=")
        found.add(encoded[4 if shift else 0 : -1])
    return found


def sung(values: Iterable[str], where: Iterable[tuple[str, bytes]]) -> list[str]:
    """Where a value is found: the place, and a little of what is around it."""
    needles = {needle for value in values for needle in forms(value)}
    return [
        f"{place}: {data[max(0, at - 60) : at + 60]!r}"
        for place, data in where
        for needle in needles
        if (at := data.find(needle)) >= 0
    ]


def of_files(folder: Path, pattern: str = "*") -> Iterator[tuple[str, bytes]]:
    """Every file of a folder, such as a database with its log and its index.

    Another process reads them: whoever closes a SQLite file loses all locks that his process has on it.
    """
    for path in sorted(folder.rglob(pattern)):
        if path.is_file():
            yield path.name, subprocess.run(["cat", path], capture_output=True, check=True).stdout


def of_postgres(url: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table of ours."""
    with psycopg.connect(url, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'perdure'").fetchall()
        for (table,) in tables:
            rows = connection.execute(sql.SQL("SELECT * FROM perdure.{}").format(sql.Identifier(table)))
            for row in rows:
                parts = (value if isinstance(value, bytes) else str(value).encode() for value in row)
                yield f"table {table}", b"\n".join(parts)
