"""Reading runs of an archive."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from perdure.api.engine import Engine
from perdure.cli.trouble import Trouble
from perdure.storage.archives import Archive, archive_at, format_of, packages_in
from perdure.storage.moving import Package


def package_in(place: str, id: str) -> Package:
    """A run of an archive, or of one of its files.

    Raises:
        Trouble: it isn't there.
    """
    found = [package for _, packages in packages_at(place) for package in packages if package.id == id]
    if not found:
        raise Trouble(f"No run has the id {id!r} in {place}. `perdure archive ls {place}` lists the runs.")
    return max(found, key=lambda package: len(package.parts))


@contextlib.asynccontextmanager
async def archived(place: str, id: str) -> AsyncGenerator[Engine, None]:
    """An engine in memory that has one run of an archive."""
    package = package_in(place, id)
    async with Engine("memory:", worker=False) as engine:
        await engine._store.moving.put([package])
        yield engine


def packages_at(place: str) -> list[tuple[str, list[Package]]]:
    """The files of an archive, or one of them, with their runs.

    Raises:
        Trouble: there is none.
    """
    path = Path(place)
    if "://" not in place and path.is_file():
        if format_of(path.name) is None:
            raise Trouble(
                f"{place} isn't a file of an archive: their names end with .jsonl, .jsonl.gz, .parquet, ..."
            )
        return [(path.name, packages_in(path.read_bytes(), path.name))]
    if "://" not in place and not path.is_dir():
        raise Trouble(
            f"There is no archive at {os.path.abspath(place)}. Give the place that the rule names, or a file of it."
        )
    there: Archive = archive_at(place)
    return [(name, there.read(name)) for name in there.files()]
