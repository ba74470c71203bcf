"""Keeps what a version leaves in its databases, for the versions to come.

    python tests/storage/record_release.py 0.1.0

Done once for each release that has a new schema, from its own source, and never again for it: what it writes to
tests/storage/released is what databases out there are like. `test_released.py` goes on with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw

HERE = Path(__file__).parent
RELEASED = HERE / "released"
sys.path.insert(0, str(HERE.parent))

import perdure.storage.postgres as postgres  # noqa: E402
import perdure.storage.sqlite as sqlite  # noqa: E402
from helpers.postgres import Server, _binaries  # noqa: E402

#: What a dump of PostgreSQL says to programs, or to newer servers only.
_NOT_SQL = ("\\", "SET transaction_timeout", "SELECT pg_catalog.set_config")


def dump_sqlite(path: Path) -> str:
    """A file as SQL, with what isn't in tables."""
    connection = apsw.Connection(str(path))
    lines = [f"PRAGMA application_id = {connection.pragma('application_id')};"]
    lines.append(f"PRAGMA user_version = {connection.pragma('user_version')};")
    lines.append("BEGIN;")
    made = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    ).fetchall()
    for name, sql in made:
        lines.append(f"{sql};")
        lines += _rows(connection, name)
    lines.append("DELETE FROM sqlite_sequence;")
    lines += _rows(connection, "sqlite_sequence")
    others = "SELECT sql FROM sqlite_schema WHERE type <> 'table' AND sql IS NOT NULL ORDER BY rowid"
    lines += [f"{sql};" for (sql,) in connection.execute(others)]
    lines.append("COMMIT;")
    connection.close()
    return "\n".join(lines) + "\n"


def _rows(connection: apsw.Connection, table: str) -> Iterator[str]:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    quoted = " || ', ' || ".join(f"quote({column})" for column in columns)
    for (values,) in connection.execute(f"SELECT {quoted} FROM {table}"):
        yield f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values});"


def load_sqlite(dump: str, path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(dump)
    connection.close()


def dump_postgres(url: str) -> str:
    """A database's tables as SQL that a plain connection takes."""
    command = [
        str(_binaries() / "pg_dump"),
        "--inserts",
        "--no-owner",
        "--no-privileges",
        "--schema=perdure",
        url,
    ]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "".join(
        line
        for line in dumped.splitlines(keepends=True)
        if line.strip() and not line.startswith(("--", *_NOT_SQL))
    )


def digests(kind: str) -> dict[str, str]:
    """Of the migrations that this source has."""
    source = sqlite if kind == "sqlite" else postgres
    folder = Path(source.__file__).parent / "migrations"
    return {
        path.name: hashlib.blake2b(path.read_bytes()).hexdigest()[:32]
        for path in sorted(folder.glob("*.sql"))
    }


def record(release: str) -> None:
    folder = RELEASED / release
    folder.mkdir(parents=True)
    kept = {kind: digests(kind) for kind in ("sqlite", "postgres")}
    (folder / "migrations.json").write_text(json.dumps(kept, indent=1) + "\n")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "released.db"
        work(f"sqlite:///{path}")
        (folder / "sqlite.sql").write_text(_anywhere(dump_sqlite(path)))
    server = Server()
    try:
        url = server.url(server.new_database())
        work(url)
        (folder / "postgres.sql").write_text(_anywhere(dump_postgres(url)))
    finally:
        server.remove()


def _anywhere(dump: str) -> str:
    """Without the folder in which this happened."""
    return dump.replace(str(HERE), "/srv/app")


def work(url: str) -> None:
    environment = {
        **os.environ,
        "PERDURE_HOST": "released",
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
    }
    # Under its real name, as a program that has it as a module.
    code = "import asyncio, sys, released_work; asyncio.run(released_work.die_in_the_middle(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, url], env=environment, check=True)


if __name__ == "__main__":
    record(sys.argv[1])
