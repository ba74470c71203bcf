"""Metrics: numbers about what happens, for those who look after it (`Metrics`).

What engines of this process do is counted as it becomes durable (runtime/metrics/). What is told of the whole database
is read when somebody asks, and kept for some seconds (databasegauges.py). metricstext.py makes Prometheus' texts of
both.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from perdure.api.connection import Connection
from perdure.api.databasegauges import gauges
from perdure.api.metricstext import text_of
from perdure.errors import PerdureError
from perdure.runtime import observing
from perdure.runtime.metrics.catalogue import CATALOGUE, Metric
from perdure.runtime.metrics.counting import Counting
from perdure.runtime.metrics.registry import LABELS_MAX, Labels, Names, Registry, Sample
from perdure.runtime.observing import Observer, Watched
from perdure.runtime.results import Results

if TYPE_CHECKING:
    from perdure.api.engine import Engine

logger = logging.getLogger("perdure.telemetry")

#: The database is read again after so many seconds, and after so many times as long as that took.
KEPT: Final = 5.0
_AGAIN: Final = 20.0
PATIENCE: Final = 2.0  #: seconds that whoever asks waits for the database
SILENT_AFTER: Final = 10.0  #: a database that says nothing for so many seconds counts as away


class Metrics:
    """Counts what engines do, and tells it in Prometheus' formats.

    Give it to an engine, or install it for all engines of the process. The catalogue is in the guide about monitoring.

    Args:
        database: also tell the numbers of the whole database. They are the same whoever tells them.
        labels_max: so many values of each label are told apart; the others are one, "other".

    Example:
        >>> metrics = Metrics()
        >>> async with Engine("sqlite:///agents.db", telemetry=metrics) as engine:  # doctest: +SKIP
        ...     content_type, text = await metrics.text(engine)
    """

    def __init__(self, *, database: bool = True, labels_max: int = LABELS_MAX) -> None:
        self.database = database
        self._names = Names(labels_max)
        self._counting: list[Counting] = []
        self._also: Callable[[Metric, Labels], Callable[[float], None]] | None = None
        self._every: float | None = None
        self._keeping: tuple[Counting, asyncio.Task[None]] | None = None
        self._past = Registry(self._names)
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._read_at: float | None = None
        self._due = 0.0
        self._reading_since = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._troubles = 0

    # -- counting ----------------------------------------------------------------------------------

    def watch(self, engine: Watched) -> Observer:
        """Count what an engine does; it calls this when it is entered."""
        counting = Counting(engine, Registry(self._names, self._also), self._closed)
        self._counting.append(counting)
        if self._every is not None and self.database and self._keeping is None:
            connection = Connection(engine.store, Results(engine.store, engine.loop), engine.clock)
            self._keeping = counting, engine.loop.create_task(self._keep_fresh(connection, self._every))
        return counting

    def install(self) -> None:
        """Count what all engines do that are entered from now on in this process."""
        observing.install(self)

    def uninstall(self) -> None:
        """Leave engines alone that are entered from now on."""
        observing.uninstall(self)

    def tell(
        self, also: Callable[[Metric, Labels], Callable[[float], None]], *, every: float | None = 15.0
    ) -> None:
        """Tell the numbers to somebody who doesn't ask; to be called before an engine is entered.

        Args:
            also: called once for each histogram and labels; makes what is called with each observation.
            every: seconds after which the numbers of the database are read again, by themselves.
        """
        self._also, self._every = also, every

    def _closed(self, counting: Counting) -> None:
        if self._keeping is not None and self._keeping[0] is counting:
            self._keeping[1].cancel()
            self._keeping = None
            if self._reading is not None:
                self._reading.cancel()
        self._counting.remove(counting)
        self._past.add(counting.registry)  # counters don't go back

    # -- telling -----------------------------------------------------------------------------------

    async def text(self, engine: Engine | None = None, accept: str = "") -> tuple[str, bytes]:
        """All numbers in a text format of Prometheus, as a content type and the text.

        Args:
            engine: an open one, by which the database is read, if that is wanted.
            accept: which formats whoever asks understands: the header of that name.

        Raises:
            ConfigurationError: the package that writes the formats isn't installed.
        """
        if engine is not None:
            await self.refresh(engine)
        # In a thread: with hundreds of steps this takes a tenth of a second, which runs mustn't wait for.
        return await asyncio.to_thread(lambda: text_of(self.samples(), accept))

    async def refresh(self, engine: Engine) -> None:
        """Read the numbers of the database, unless that was done some seconds ago.

        Whoever asks gets an answer in time: after PATIENCE seconds it is what was read before. Raises nothing if the
        database can't be read: `perdure_db_up` tells.
        """
        await self._refresh(engine._open())

    async def _refresh(self, connection: Connection) -> None:
        if not self.database or time.monotonic() < self._due:
            return
        if self._reading is None or self._reading.done():
            self._reading_since = time.monotonic()
            self._reading = asyncio.create_task(self._read(connection))
        await asyncio.wait([self._reading], timeout=PATIENCE)

    async def _keep_fresh(self, connection: Connection, every: float) -> None:
        while True:
            await self._refresh(connection)
            await asyncio.sleep(every)

    def samples(self) -> Iterator[Sample]:
        """All numbers as they are now; those of the database as they were read last. Safe in any thread."""
        together = Registry(self._names)
        for registry in [self._past, *(counting.registry for counting in list(self._counting))]:
            together.add(registry)
        for name, labels, value in together.cells():
            yield Sample(CATALOGUE[name], labels, value)
        for name, labels, counts, total in together.histograms():
            yield Sample(CATALOGUE[name], labels, total, tuple(counts))
        for name, labels, value in (*self._here(), *_process(), *self._of_database()):
            yield Sample(CATALOGUE[name], labels, value)

    def _here(self) -> Iterator[tuple[str, Labels, float]]:
        engines = [counting.engine for counting in list(self._counting)]
        loads = [engine.load() for engine in engines]
        if loads:
            yield "perdure_resident_runs", (), sum(runs for runs, _ in loads)
            yield "perdure_executing_steps", (), sum(steps for _, steps in loads)
        told = {(_version(), engine.version, ",".join(engine.queues)) for engine in engines if engine.drives}
        for labels in sorted(told):
            yield "perdure_worker_info", labels, 1

    def _of_database(self) -> Iterator[tuple[str, Labels, float]]:
        now = time.monotonic()
        reading = self._reading is not None and not self._reading.done()
        silent = reading and now > self._reading_since + SILENT_AFTER
        if silent:
            yield "perdure_db_up", (), 0
        for (name, labels), value in list(self._gauges.items()):
            if not (silent and name == "perdure_db_up"):
                yield name, labels, value
        if self._read_at is not None:
            yield "perdure_db_look_age_seconds", (), max(0.0, now - self._read_at)
        if self._troubles:
            yield "perdure_store_errors_total", ("look",), self._troubles

    async def _read(self, connection: Connection) -> None:
        begun = time.monotonic()
        found: dict[tuple[str, Labels], float] = {}
        try:
            async for name, labels, value in gauges(connection):
                metric = CATALOGUE[name]
                key = name, self._names.bounded(metric, labels)
                before = found.get(key, 0.0)
                found[key] = max(before, value) if metric.unit in ("s", "1") else before + value
        except Exception as error:
            if not isinstance(error, PerdureError):
                logger.error("the numbers of the database couldn't be read", exc_info=error)
            self._troubles += 1
            self._gauges["perdure_db_up", ()] = 0  # the other numbers stay, and tell their age
            self._due = time.monotonic() + 1.0
            return
        now = time.monotonic()
        found["perdure_db_up", ()] = 1
        found["perdure_db_look_seconds", ()] = now - begun
        self._gauges, self._read_at = found, now
        self._due = now + max(KEPT, (now - begun) * _AGAIN)


def metrics_of(engine: Engine) -> Metrics | None:
    """What counts an engine's deeds, if anything does."""
    telemetry = (*engine._settings.telemetry, *observing.installed())
    return next((each for each in telemetry if isinstance(each, Metrics)), None)


@cache
def _version() -> str:
    from importlib import metadata  # which costs more than all of this package does

    try:
        return metadata.version("perdure")
    except metadata.PackageNotFoundError:  # run from a folder
        return "unknown"


def _process() -> Iterator[tuple[str, Labels, float]]:
    """What the system knows of this process, as far as it tells."""
    times = os.times()
    yield "process_cpu_seconds_total", (), times.user + times.system
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open("/proc/uptime", encoding="ascii") as file:
            uptime = float(file.read().split()[0])
        ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        yield "process_start_time_seconds", (), time.time() - uptime + int(fields[19]) / ticks
        yield "process_resident_memory_bytes", (), int(fields[21]) * page
        yield "process_open_fds", (), len(os.listdir("/proc/self/fd"))
    except (OSError, ValueError, IndexError):
        return  # not on this system
