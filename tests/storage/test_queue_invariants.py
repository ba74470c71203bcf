"""Whatever happens in whatever order, the limits of a queue hold: random starts, claims, waits, ends and deaths."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.postgres import lent_database
from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.storage.chain import links
from perdure.storage.memory import MemoryStore
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.records import Append, NewRun
from perdure.storage.sqlite import SqliteStore
from perdure.storage.workers import WorkerRow

limits = st.builds(
    QueueSettings,
    concurrency=st.none() | st.integers(1, 6),
    per_worker=st.none() | st.integers(1, 3),
    rate=st.none() | st.builds(Rate, st.integers(3, 8), per=st.just(10.0), burst=st.integers(1, 3)),
    per_key=st.none() | st.integers(1, 2),
    priority=st.booleans(),
    fairness=st.sampled_from([None, "key"]),
)

keys = st.sampled_from([None, "a", "b", "c"])

#: What happens next, and how much later.
events = st.tuples(
    st.one_of(
        st.tuples(
            st.just("start"),
            st.lists(st.tuples(keys, st.integers(0, 2), st.sampled_from([0, 0, 5])), max_size=6),
        ),
        st.tuples(st.just("claim"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.just("claim"), st.integers(0, 2), st.integers(1, 6)),
        st.tuples(st.just("end"), st.integers(0, 20)),
        st.tuples(st.just("wait"), st.integers(0, 20), st.sampled_from([None, 0, 3])),
        st.tuples(st.just("die"), st.integers(0, 2)),
    ),
    st.sampled_from([0.0, 0.1, 1.0, 4.0]),
)


class Model:
    """A queue in a store, and what its limits say of it."""

    def __init__(self, store: Store, settings: QueueSettings) -> None:
        self.store = store
        self.settings = settings
        self.now = 1_700_000_000.0
        self.workers: list[int] = []
        self.waiting: dict[
            str, tuple[str | None, int, float]
        ] = {}  #: key, priority and moment of those in line
        self.slots: dict[str, str | None] = {}  #: keys of those that hold slots
        self.owned: dict[str, int] = {}  #: workers of those that are driven
        self.begun: list[float] = []
        self.number = 0

    async def open(self) -> None:
        await self.store.open()
        await self.store.queues.define("q", self.settings, now=self.now)
        for _ in range(3):
            await self.sign_up()

    async def sign_up(self) -> None:
        row = WorkerRow(0, "w", "h", 1, 2, self.now, self.now + 9e9, ["q"], ["w"])
        self.workers.append(await self.store.register(row, now=self.now))

    async def start(self, runs: list[tuple[str | None, int, int]]) -> None:
        new: list[NewRun] = []
        for key, priority, delay in runs:
            self.number += 1
            id, wake_at = f"r{self.number}", self.now + delay
            self.waiting[id] = key, priority, wake_at
            new.append(NewRun(id, "w", b"f", b"first", "q", self.now, wake_at, key=key, priority=priority))
        if new:
            await self.store.create(new)

    async def claim(self, place: int, limit: int) -> None:
        """First of the runs that lost their workers again and again, then of the others."""
        await self._claim(place, limit, self.now)
        await self._claim(place, limit, None)

    async def _claim(self, place: int, limit: int, suspected: float | None) -> None:
        worker = self.workers[place]
        claimed = await self.store.claim(
            worker, workflows=["w"], queues=["q"], now=self.now, limit=limit, suspected=suspected
        )
        fresh = [row.id for row in claimed.rows if row.id in self.waiting]
        for row in claimed.rows:
            assert row.id not in self.owned
            self.owned[row.id] = worker
        ready = {id: place for id, place in self.waiting.items() if place[2] <= self.now}
        assert set(fresh) <= set(ready)
        for id in fresh:
            self.slots[id] = self.waiting.pop(id)[0]
            self.begun.append(self.now)
        self.check_limits()
        self.check_order(
            {id: ready[id] for id in fresh}, {id: p for id, p in ready.items() if id in self.waiting}
        )
        if len(claimed.rows) < limit and ready.keys() & self.waiting.keys():
            assert claimed.waits or claimed.next_at is not None

    def check_limits(self) -> None:
        said = self.settings
        assert said.concurrency is None or len(self.slots) <= said.concurrency
        by_key = Counter(key for key in self.slots.values() if key is not None)
        assert said.per_key is None or max(by_key.values(), default=0) <= said.per_key
        here = Counter(self.owned.values())
        assert said.per_worker is None or max(here.values(), default=0) <= said.per_worker
        if said.rate is not None:
            window = [at for at in self.begun if at > self.now - said.rate.per]
            assert len(window) <= said.rate.limit

    def check_order(
        self,
        begun: dict[str, tuple[str | None, int, float]],
        left: dict[str, tuple[str | None, int, float]],
    ) -> None:
        """Nobody is left for whom there was room before one who has begun."""
        said = self.settings
        after = Counter(self.slots.values())

        def could(key: str | None) -> bool:
            return said.per_key is None or key is None or after[key] < said.per_key

        for key, priority, wake_at in left.values():
            if not could(key):
                continue
            for other, higher, earlier in begun.values():
                if said.priority:
                    assert higher >= priority
                if said.priority and higher > priority:
                    continue
                if said.fairness:
                    assert after[other] - 1 <= after[key] or other == key
                elif said.per_key is None or other == key:
                    assert earlier <= wake_at

    async def end(self, place: int, **how: Any) -> None:
        if not self.owned:
            return
        id = sorted(self.owned)[place % len(self.owned)]
        (row,) = await self.store.get([id])
        assert row is not None
        self.number += 1
        append = Append(
            row.run, row.seq, row.epoch, self.number, [b"x"], self.now, links(row.chain, [b"x"]), **how
        )
        await self.store.append([append])
        del self.owned[id]
        if "release" not in how:
            del self.slots[id]

    async def die(self, place: int) -> None:
        worker = self.workers.pop(place)
        (row,) = [row for row in await self.store.workers() if row.id == worker]
        await self.store.bury(worker, row.lease_until, now=self.now, max_recoveries=99)
        self.owned = {id: owner for id, owner in self.owned.items() if owner != worker}
        await self.sign_up()

    async def finish(self) -> None:
        """Everybody begins and ends, if only those in line go on."""
        for _ in range(300):
            for place in range(3):
                await self.claim(place, 6)
            while self.owned:
                await self.end(0, status="completed")
            if not (self.waiting or self.slots):
                return
            self.now += 2.0
        raise AssertionError(f"these never began: {self.waiting}, or never ended: {self.slots}")


async def happens(store: Store, said: QueueSettings, happening: list[tuple[Any, float]]) -> None:
    model = Model(store, said)
    await model.open()
    try:
        for (what, *args), later in happening:
            match what:
                case "start":
                    await model.start(args[0])
                case "claim":
                    await model.claim(args[0], args[1])
                case "end":
                    await model.end(args[0], status="completed")
                case "wait":
                    wake_at = None if args[1] is None else model.now + args[1]
                    await model.end(args[0], status="waiting", release=True, wake_at=wake_at or model.now + 9)
                case _:
                    await model.die(args[0])
            model.now += later
        await model.finish()
    finally:
        await store.close()


anything = given(limits, st.lists(events, min_size=5, max_size=40))
how = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=80, **how)
@anything
def test_limits_hold_in_memory(said: QueueSettings, happening: list[tuple[Any, float]]) -> None:
    asyncio.run(happens(MemoryStore(), said, happening))


@settings(max_examples=25, **how)
@anything
def test_limits_hold_in_sqlite(said: QueueSettings, happening: list[tuple[Any, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(happens(SqliteStore(Path(folder) / "test.db"), said, happening))


@settings(max_examples=12, **how)
@anything
def test_limits_hold_in_postgres(said: QueueSettings, happening: list[tuple[Any, float]]) -> None:
    with lent_database() as url:
        asyncio.run(happens(PostgresStore(url), said, happening))
