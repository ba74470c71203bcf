"""Runs the measurements in alternating rounds and prints a table for each store.

Usage: python -m benchmarks [--store NAME] [--rounds N] [--folder DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import tables
from benchmarks.tables import Rounds

#: Measured in every round, raw limits and ours in turn; the others once.
SQLITE = ("raw_commits", "sequential", "raw_batches", "concurrent", "replay", "memory")
SQLITE_ONCE = ("fsyncs", "sleepers")
POSTGRES = ("sequential", "concurrent", "two_workers", "messages")

Measure = Callable[[str], dict[str, float]]


def _measured(module: str, name: str, place: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, name, place], check=True, stdout=subprocess.PIPE, text=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def sqlite(folder: Path) -> Iterator[Measure]:
    def measure(name: str) -> dict[str, float]:
        place = tempfile.mkdtemp(prefix=f"{name}-", dir=folder)
        try:
            return _measured("benchmarks.workloads", name, place)
        finally:
            shutil.rmtree(place)

    yield measure


@contextmanager
def postgres(folder: Path) -> Iterator[Measure]:
    """A server of its own, on the disk to be measured, with the settings for durability that it comes with."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from helpers.postgres import Server

    server = Server(folder=folder, shared_buffers="256MB", max_wal_size="1GB")
    try:
        yield lambda name: _measured("benchmarks.postgres", name, server.socket_url(server.new_database()))
    finally:
        server.remove()


def run(measure: Measure, rounds: int, each_round: tuple[str, ...], once: tuple[str, ...] = ()) -> Rounds:
    results: Rounds = {}
    for number in range(rounds):
        for name in each_round:
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr)
            results.setdefault(name, []).append(measure(name))
    for name in once:
        print(f"once: {name}", file=sys.stderr)
        results[name] = [measure(name)]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgres"], help="only this one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--folder", type=Path, default=Path.cwd(), help="where the databases are: the disk to measure"
    )
    parser.add_argument("--json", type=Path, help="write every single figure there, too")
    options = parser.parse_args()
    results: dict[str, Rounds] = {}
    if options.store != "postgres":
        with sqlite(options.folder) as measure:
            results["sqlite"] = run(measure, options.rounds, SQLITE, SQLITE_ONCE)
        print(tables.sqlite(results["sqlite"]), flush=True)
    if options.store != "sqlite":
        with postgres(options.folder) as measure:
            results["postgres"] = run(measure, options.rounds, POSTGRES)
        print(tables.postgres(results["postgres"]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
