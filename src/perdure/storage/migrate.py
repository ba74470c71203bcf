"""Numbered migrations: how a database gets from any older schema to the one this version needs.

Migrations are files named `0001_what_it_does.sql`, `0002_...`, without gaps. They are never edited once
released: every database in the world has run them as they were.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from perdure.errors import ConfigurationError


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: `version` is the schema's number after it."""

    version: int
    name: str
    sql: str


def load_migrations(folder: Path) -> list[Migration]:
    """All migrations of a folder, in order. The last one's version is the schema this code needs."""
    migrations: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        if not number.isdigit() or int(number) != len(migrations) + 1:
            raise ConfigurationError(
                f"Migration {path.name} is out of line: files must be numbered 0001, 0002, ... without gaps, "
                f"and {len(migrations) + 1:04d} is due here."
            )
        migrations.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return migrations
