"""Every measurement in a process of its own, in rounds: A B A B, so that the disk's drift meets everybody alike."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import Peers
from benchmarks.works import Contender, Sizes, Work

Figures = dict[str, float]
ROOT = Path(__file__).parents[1]


class MeasurementFailed(Exception):
    """The measuring process didn't give figures. The text is the last that it said."""


@dataclass
class Results:
    """Attributes:
    figures: by work and contender, those of each round; None where a round failed.
    failures: by the same, the last reason.
    titles: of the works, with their sizes.
    """

    figures: dict[str, dict[str, list[Figures | None]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)

    def add(self, work: Work, contender: Contender, found: Figures | MeasurementFailed) -> None:
        rounds = self.figures.setdefault(work.key, {}).setdefault(contender.key, [])
        if isinstance(found, MeasurementFailed):
            rounds.append(None)
            self.failures.setdefault(work.key, {})[contender.key] = str(found)
        else:
            rounds.append(found)


class Bench:
    """Where measurements take place: folders and one PostgreSQL server, both on the disk to be measured."""

    def __init__(self, folder: Path, peers: Peers) -> None:
        self._folder = folder
        self._peers = peers
        self._exits = ExitStack()
        self._server: Any = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    @property
    def postgres(self) -> Any:
        """A server of its own, with the settings for durability that it comes with."""
        if self._server is None:
            sys.path.append(str(ROOT / "tests"))
            from helpers.postgres import Server

            # the tests' server looks for what to vacuum each 10 s and keeps few files of its log: both cost time that a
            # server which has been up for a while doesn't take
            settings = {"shared_buffers": "256MB", "min_wal_size": "1GB", "max_wal_size": "1GB"}
            self._server = Server(folder=self._folder, autovacuum_naptime="1min", **settings)
            self._exits.callback(self._server.remove)
        return self._server

    @contextmanager
    def _place(self, contender: Contender) -> Iterator[str]:
        """An empty folder, or the URL of an empty database."""
        if contender.store != "postgres":
            place = tempfile.mkdtemp(prefix=f"{contender.key}-", dir=self._folder)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)
            return
        name = self.postgres.new_database()
        try:
            if contender.module == "with_absurd":
                self.postgres.execute(self._peers.schema.read_text(), name)
            yield self.postgres.socket_url(name)
        finally:
            self.postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def measure(self, work: Work, contender: Contender, sizes: Sizes) -> Figures:
        with self._place(contender) as place:
            if work.prepared and contender.module not in work.unprepared:
                self._process(contender, f"{work.function}_before", place, sizes, work.seconds)
            found = json.loads(self._process(contender, work.function, place, sizes, work.seconds))
            if contender.store == "postgres" and any(
                one.name == "disk_bytes_per_run" for one in work.figures
            ):
                found["disk_bytes_per_run"] = self._database_bytes(place) / sizes["runs"]
            return dict(found)

    def _database_bytes(self, url: str) -> int:
        """Tables and indexes; the log is everybody's."""
        name = url.split("@/")[1].split("?")[0]
        ((size,),) = self.postgres.execute(
            f"SELECT pg_database_size('{name}') - pg_database_size('template1')"
        )
        return int(size)

    def _process(self, contender: Contender, function: str, place: str, sizes: Sizes, seconds: int) -> str:
        python = str(self._peers.python) if contender.peer else sys.executable
        environment = self._peers.environment if contender.peer else dict(os.environ)
        with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [python, "-m", f"benchmarks.engines.{contender.module}", function, place, json.dumps(sizes)],
                stdout=said,
                stderr=errors,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
                code = None
                process.terminate()  # so that it can end those that it started
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                if isinstance(error, KeyboardInterrupt):
                    raise
            finally:
                with contextlib.suppress(ProcessLookupError):  # it, and what it left
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if code is None:
                msg = f"not done after {seconds} s"
                raise MeasurementFailed(msg)
            if code != 0 and not (code == -signal.SIGKILL and function.endswith("_before")):
                errors.seek(0)
                raise MeasurementFailed((errors.read().strip() or f"it ended with {code}").splitlines()[-1])
            said.seek(0)
            return said.read()


class Planned(NamedTuple):
    """A work that is to be measured, how large, and who does it."""

    work: Work
    sizes: Sizes
    contenders: list[Contender]


def run(
    bench: Bench,
    works: list[Planned],
    rounds: int,
    seconds: float,
    results: Results,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Fill in the results, round by round; whatever is there already when it is interrupted counts.

    Everything is measured once. Further rounds begin with the works that take least, and go on as long as they fit.

    Args:
        rounds: at most so many of each work.
        seconds: in which everything is to be done. What is begun is finished.
    """
    ends = clock() + seconds
    took: dict[str, float] = {}
    for number in range(rounds):
        for planned in sorted(works, key=lambda one: took.get(one.work.key, 0.0)):
            work = planned.work
            expected = took.get(work.key, 0.0)
            if number >= work.most_rounds or (number and clock() + expected > ends):
                continue
            began = clock()
            _measure_all(bench, planned, f"round {number + 1}", results)
            took[work.key] = max(expected, clock() - began)


def _measure_all(bench: Bench, planned: Planned, where: str, results: Results) -> None:
    """One round of one work: everybody takes a turn."""
    work, sizes, contenders = planned
    title = results.titles[work.key] = work.title.format(**sizes)
    for contender in contenders:
        began = time.monotonic()
        try:
            found: Figures | MeasurementFailed = bench.measure(work, contender, sizes)
        except MeasurementFailed as error:
            found = error
        results.add(work, contender, found)
        told = found if isinstance(found, MeasurementFailed) else json.dumps(found)
        took = time.monotonic() - began
        print(f"{where}: {title}: {contender.label}: {told} ({took:.1f} s)", file=sys.stderr)
