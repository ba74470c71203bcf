"""Numbered migrations: how a database gets from any older schema to the one this version needs.

Migrations are files named `0001_what_it_does.sql`, `0002_...`, without gaps. They are never edited once
released: every database in the world has run them as they were.

While they run, workers with the code of before go on, and so they do afterwards until they are replaced. Therefore each
file but the first says in its head how old code may be to go on with the schema that it makes, by the newest migration
that such code knows:

    -- oldest code: 3

A file happens as a whole, in one transaction. One whose head says `-- in steps` doesn't: each of its statements is
committed by itself, so that it can take its time without holding others up. A process may be killed between them, and
the next one begins at the file's top, so each must be harmless when it has happened already. A statement after the line
`-- repeat` is executed until it changes no more rows; that is how large tables are filled in portions:

    -- oldest code: 3
    -- in steps
    ALTER TABLE runs ADD COLUMN IF NOT EXISTS colour text;
    -- repeat
    UPDATE runs SET colour = 'blue' WHERE run IN (SELECT run FROM runs WHERE colour IS NULL LIMIT 1000);

docs/adr/0014 tells why.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from perdure.errors import ConfigurationError, NewerSchemaError, OlderWorkersError

_OLDEST_CODE = re.compile(r"-- oldest code: (\d+)")
_IN_STEPS = "-- in steps"
_REPEAT = "-- repeat"


class Statement(msgspec.Struct, frozen=True):
    """A statement of a migration in steps.

    Attributes:
        repeats: it is executed until it changes no rows.
    """

    sql: str
    repeats: bool = False


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema.

    Attributes:
        version: the schema's number after it.
        sql: the whole file.
        oldest_code: the newest migration that code must know to be able to use the schema after this one.
        steps: its statements, if each is committed by itself.
    """

    version: int
    name: str
    sql: str
    oldest_code: int
    steps: Sequence[Statement] = ()


def load_migrations(folder: Path) -> list[Migration]:
    """All migrations of a folder, in order. The last one's version is the schema this code needs.

    Raises:
        ConfigurationError: a file is out of line, or doesn't say what it has to say.
    """
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        if not number.isdigit() or int(number) != len(migrations) + 1:
            raise ConfigurationError(
                f"Migration {path.name} is out of line: files must be numbered 0001, 0002, ... without gaps, "
                f"and {len(migrations) + 1:04d} is due here."
            )
        migrations.append(_read(path, int(number), name))
    return migrations


def _read(path: Path, version: int, name: str) -> Migration:
    sql = path.read_text(encoding="utf-8")
    head = [
        line.strip() for line in itertools.takewhile(lambda line: line.startswith("--"), sql.splitlines())
    ]
    said = next(filter(None, map(_OLDEST_CODE.fullmatch, head)), None)
    oldest = int(said[1]) if said else 1
    if version > 1 and (said is None or not 1 <= oldest < version):
        raise ConfigurationError(
            f"Migration {path.name} must say how old code may be to go on with its schema, and leave out nobody who "
            f"knows the one before: write '-- oldest code: N' into its head, N from 1 to {version - 1}."
        )
    steps = _statements(sql) if _IN_STEPS in head else ()
    return Migration(version, name, sql, oldest, steps)


def _statements(sql: str) -> list[Statement]:
    """The statements of a file, each of which ends with a semicolon at a line's end."""
    statements: list[Statement] = []
    lines: list[str] = []
    repeats = False
    for line in sql.splitlines():
        if line.strip() == _REPEAT:
            repeats = True
        elif line.strip() and not line.lstrip().startswith("--"):
            lines.append(line)
            if line.rstrip().endswith(";"):
                statements.append(Statement("\n".join(lines).rstrip().removesuffix(";"), repeats))
                lines, repeats = [], False
    return statements


class SchemaState(msgspec.Struct, frozen=True):
    """How a database's schema stands to what this code knows.

    Attributes:
        version: the database's; 0 if it has none yet.
        known: the newest that this code knows.
        due: what would be done to bring it up to date.
        in_the_way: why that can't be done now, if so.
    """

    where: str
    version: int
    known: int
    due: Sequence[Migration] = ()
    in_the_way: str | None = None


def usable(where: str, version: int, oldest_code: int | None, known: int) -> bool:
    """Whether code that knows `known` migrations can use a database as it is; if not, it has to be migrated.

    Args:
        version: the database's schema.
        oldest_code: what the database says about who can use that; None if it doesn't say.

    Raises:
        NewerSchemaError: it is too new.
    """
    if version > known and (oldest_code is None or oldest_code > known):
        raise NewerSchemaError(
            f"The database {where} has schema version {version}, and this version of Perdure knows only up to "
            f"{known}: a newer one has used it. Upgrade Perdure here. (pip install -U perdure)"
        )
    return version >= known


def left_behind(where: str, worker: str, known: int, migration: Migration) -> OlderWorkersError:
    """What is said when a live worker's code is too old for a migration."""
    return OlderWorkersError(
        f"The database {where} can't be brought to schema version {migration.version}: worker {worker} is up, and its "
        f"code knows only version {known}; with the new schema only code from {migration.oldest_code} on can work. "
        "Stop the old workers first, or upgrade release by release. Nothing was changed."
    )
