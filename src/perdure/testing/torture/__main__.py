"""`python -m perdure.testing.torture`: the program from its arguments to its verdict."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
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
from perdure.testing.torture.poison import poison
from perdure.testing.torture.power import cut_power
from perdure.testing.torture.report import Report
from perdure.testing.torture.smalldisk import fill_up, small_disk
from perdure.testing.torture.workshop import notes

if TYPE_CHECKING:
    from perdure.testing.torture.backends import Backends
    from perdure.testing.torture.server import Server


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="perdure torture",
        description="Kill workers on your own machine and database, and see whether anything is lost.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", help="a database without runs: it is written full")
    where.add_argument(
        "--own-postgres", action="store_true", help="make a PostgreSQL server for this, and crash it, too"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to kill (default: 30)")
    parser.add_argument("--seed", type=int, help="repeats the programs and blows of an earlier torture")
    parser.add_argument("--workers", type=int, default=3, help="how many processes (default: 3)")
    parser.add_argument("--folder", type=Path, help="where logs and books go (default: a temporary folder)")
    parser.add_argument(
        "--pgdata", type=Path, help="the data directory of the PostgreSQL server at --url: it is crashed, too"
    )
    return parser.parse_args()


@dataclass
class Plan:
    """What is tortured, and how.

    Args:
        server: of the database, if it may be crashed.
    """

    url: str
    folder: Path
    seconds: float
    seed: int
    workers: int
    server: Server | None = None


async def torture(plan: Plan) -> Report:
    """Do all of it.

    Raises:
        PerdureError: the database can't be used, or holds runs.
    """
    url, seconds, seed = plan.url, plan.seconds, plan.seed
    chance = random.Random(seed)  # noqa: S311 - a seed must bring the same blows
    report = Report(shown_url(url), seed, seconds)
    async with Engine(url, worker=False) as engine:
        async for run in engine.runs(limit=1):
            raise PerdureError(
                f"{shown_url(url)} holds runs, such as {run.id!r}: torture only what is empty. Give another --url."
            )
        load = Load(engine, seed)
        backends, server = backends_of(url, chance), plan.server
        cut = backends.cut if backends else None
        crash = partial(asyncio.to_thread, server.crash) if server else None
        async with Fleet(url, plan.folder, plan.workers, chance, cut, crash) as fleet:
            until = time.monotonic() + seconds
            attack = asyncio.create_task(fleet.attack(until))
            await load.keep_up(until)
            await attack
            fleet.look_after()
        report.poisoning = await poison(engine, url, plan.folder, plan.workers, chance, seed)
        report.findings = await Audit(notes(fleet.books), fleet.stopped).look(engine)
    report.started, report.completed, report.refused = load.started, load.completed, load.refused
    report.kills, report.pauses = fleet.kills, fleet.pauses
    report.cuts = None if backends is None else backends.cuts
    report.restarts = None if server is None else server.restarts
    report.faults = [
        *load.wrong,
        *(f"stuck: {one}" for one in load.stuck),
        *fleet.deaths,
        *report.poisoning.wrong,
        *report.findings.violations,
        *damage(url),
    ]
    if url.startswith("sqlite:"):
        with small_disk(plan.folder) as disk:
            if disk is not None:
                report.full, wrong = await fill_up(plan.folder, disk, seconds / 5, chance, seed)
                report.faults += wrong
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


def carry_out(asked: argparse.Namespace, folder: Path, seed: int) -> Report:
    """Torture what was asked for, and cut the power where that can be done."""
    plan = Plan(asked.url or "", folder, asked.seconds, seed, asked.workers)
    with ExitStack() as left:
        if asked.own_postgres or asked.pgdata is not None:
            from perdure.testing.torture.server import Server, made_server

            chance = random.Random(f"{seed}/server")  # noqa: S311 - a seed must bring the same blows
            if asked.own_postgres:
                plan.url, plan.server = left.enter_context(made_server(chance))
            else:
                plan.server = Server(asked.pgdata, chance)
        report = asyncio.run(torture(plan))
        if plan.url.startswith("sqlite:"):
            report.images, lost = cut_power(folder, asked.seconds / 5, seed)
            report.faults += lost
    return report


def main() -> int:
    """Be the program; returns its exit code."""
    asked = arguments()
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="perdure-torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder / "client.log")
    print(f"Seed {seed}; logs and books in {folder}", flush=True)  # noqa: T201 - a program speaks
    try:
        report = carry_out(asked, folder, seed)
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
