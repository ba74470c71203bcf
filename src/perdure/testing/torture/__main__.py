"""`python -m perdure.testing.torture`: the program from its arguments to its verdict."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import apsw

from perdure import Engine
from perdure.errors import PerdureError
from perdure.storage.urls import shown_url
from perdure.testing.torture.audit import Audit
from perdure.testing.torture.fleet import Fleet
from perdure.testing.torture.load import Load
from perdure.testing.torture.power import cut_power
from perdure.testing.torture.report import Report
from perdure.testing.torture.workshop import notes

if TYPE_CHECKING:
    from perdure.testing.torture.backends import Backends


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="perdure torture",
        description="Kill workers on your own machine and database, and see whether anything is lost.",
    )
    parser.add_argument("--url", required=True, help="a database without runs: it is written full")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to kill (default: 30)")
    parser.add_argument("--seed", type=int, help="repeats the programs and blows of an earlier torture")
    parser.add_argument("--workers", type=int, default=3, help="how many processes (default: 3)")
    parser.add_argument("--folder", type=Path, help="where logs and books go (default: a temporary folder)")
    return parser.parse_args()


async def torture(url: str, folder: Path, seconds: float, seed: int, workers: int) -> Report:
    """Do all of it.

    Raises:
        PerdureError: the database can't be used, or holds runs.
    """
    chance = random.Random(seed)  # noqa: S311 - a seed must bring the same blows
    report = Report(shown_url(url), seed, seconds)
    async with Engine(url, worker=False) as engine:
        async for run in engine.runs(limit=1):
            raise PerdureError(
                f"{shown_url(url)} holds runs, such as {run.id!r}: torture only what is empty. Give another --url."
            )
        load = Load(engine, seed)
        backends = backends_of(url, chance)
        async with Fleet(url, folder, workers, chance, backends.cut if backends else None) as fleet:
            until = time.monotonic() + seconds
            attack = asyncio.create_task(fleet.attack(until))
            await load.keep_up(until)
            await attack
            fleet.look_after()
        report.findings = await Audit(notes(fleet.books), fleet.stopped).look(engine)
    report.started, report.completed, report.refused = load.started, load.completed, load.refused
    report.kills, report.pauses = fleet.kills, fleet.pauses
    report.cuts = None if backends is None else backends.cuts
    report.faults = [
        *load.wrong,
        *(f"stuck: {one}" for one in load.stuck),
        *fleet.deaths,
        *report.findings.violations,
        *damage(url),
    ]
    return report


def backends_of(url: str, chance: random.Random) -> Backends | None:
    """What can be cut, if the database is a server."""
    if not url.startswith("postgres"):
        return None
    from perdure.testing.torture.backends import Backends

    return Backends(url, chance)


def damage(url: str) -> list[str]:
    """What SQLite finds wrong with its file."""
    if not url.startswith("sqlite:///"):
        return []
    connection = apsw.Connection(unquote(url.removeprefix("sqlite:///")))
    try:
        found = cast(Any, connection).execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()
    return [f"integrity_check: {line}" for (line,) in found if line != "ok"]


def main() -> int:
    """Be the program; returns its exit code."""
    asked = arguments()
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="perdure-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / "client.log")
    print(f"Seed {seed}; logs and books in {folder}", flush=True)  # noqa: T201 - a program speaks
    try:
        report = asyncio.run(torture(asked.url, folder, asked.seconds, seed, asked.workers))
        if asked.url.startswith("sqlite:"):
            report.images, lost = cut_power(folder, asked.seconds / 5, seed)
            report.faults += lost
    except KeyboardInterrupt:
        print("Interrupted; nothing is shown by this.", file=sys.stderr)  # noqa: T201
        return 130
    except PerdureError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print("\n".join(report.lines()))  # noqa: T201
    return 0 if report.passed and report.told_nothing is None else 1


if __name__ == "__main__":
    sys.exit(main())
