"""A worker among the others: who is taken for dead when, and what a worker does that was. The clock is the test's."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from perdure.runtime.fleet import LENIENCE_MIN, Fleet
from perdure.runtime.liveness import host_identity
from perdure.runtime.settings import Settings
from perdure.storage.memory import MemoryStore
from perdure.storage.workers import Heartbeat, WorkerRow

LEASE = 15.0


class World:
    """One worker, a clock, and the rows of others."""

    def __init__(self, lease: float = LEASE) -> None:
        self.now = 1000.0
        self.store = MemoryStore()
        self.calls: list[str] = []
        self.held_until = 0.0
        self.lost = 0
        settings = Settings(lease=lease, name="me", clock=self.clock)
        self.fleet = Fleet(
            cast(Any, self),
            cast(Any, self),
            settings,
            load=lambda: (7, 3),
            lost=self._lose,
            held_until=self._hold,
            due=lambda: None,
            check=lambda: None,
        )

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.store, name)

    def clock(self) -> float:
        return self.now

    def time(self) -> float:
        """As an event loop's."""
        return self.now

    def _lose(self) -> int:
        self.lost += 1
        return 12

    def _hold(self, moment: float) -> None:
        self.held_until = moment

    async def join(self) -> None:
        await self.store.open()
        await self.fleet.join()

    async def another(self, *, host: str = "elsewhere", born: int = 0, pid: int = 1) -> int:
        row = WorkerRow(0, "other", host, pid, born, self.now, self.now + LEASE, ["q"], ["w"])
        return await self.store.register(row, now=self.now)

    async def names(self) -> list[str]:
        return [row.name for row in await self.store.workers()]


def test_a_lease_that_is_over_ends_a_worker_elsewhere() -> None:
    async def main() -> None:
        world = World()
        await world.join()
        await world.another()
        for _ in range(3):
            world.now += LEASE / 3
            await world.fleet._beat()
            await world.fleet._bury_the_dead()
            assert await world.names() == ["me", "other"]
        world.now += 0.1
        await world.fleet._bury_the_dead()
        assert await world.names() == ["me"]

    asyncio.run(main())


def test_a_very_short_lease_ends_a_worker_elsewhere_too() -> None:
    """Its heartbeats aren't a third of it apart, but as often as the worker looks; no silence, therefore."""

    async def main() -> None:
        world = World(lease=0.5)
        await world.join()
        row = WorkerRow(0, "other", "elsewhere", 1, 0, world.now, world.now + 0.5, ["q"], ["w"])
        await world.store.register(row, now=world.now)
        for _ in range(2):
            world.now += 0.4
            await world.fleet._beat()
        await world.fleet._bury_the_dead()
        assert await world.names() == ["me"]

    asyncio.run(main())


def test_after_a_silence_others_have_time_to_be_heard_of() -> None:
    """A server that was away for longer than the lease: the first worker that is back finds all leases over."""

    async def main() -> None:
        world = World()
        await world.join()
        other = await world.another()
        await world.another()  # which won't come back
        world.now += 2 * LEASE
        await world.fleet._beat()
        await world.fleet._bury_the_dead()
        assert await world.names() == ["me", "other", "other"]
        await world.store.heartbeat(other, Heartbeat(world.now + LEASE, world.now))
        world.now += max(LENIENCE_MIN, LEASE / 3) + 0.1
        await world.fleet._bury_the_dead()
        assert [row.id for row in await world.store.workers() if row.name == "other"] == [other]

    asyncio.run(main())


def test_a_process_that_has_ended_is_dead_even_then() -> None:
    async def main() -> None:
        world = World()
        await world.join()
        await world.another(host=host_identity(), born=1, pid=2**22 + 1)
        world.now += 2 * LEASE
        await world.fleet._beat()
        await world.fleet._bury_the_dead()
        assert await world.names() == ["me"]

    asyncio.run(main())


def test_a_newcomer_takes_over_at_once_what_has_lapsed() -> None:
    async def main() -> None:
        world = World()
        await world.store.open()
        await world.another()
        world.now += LEASE + 1
        await world.fleet.join()
        assert await world.names() == ["me"]

    asyncio.run(main())


def test_a_worker_that_was_declared_dead_says_so_and_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        world = World()
        await world.join()
        former = world.fleet.id
        await world.store.bury(former, world.now + LEASE, now=world.now, max_recoveries=10)
        world.now += LEASE
        await world.fleet._beat()
        assert world.lost == 1
        assert world.fleet.id != former
        assert world.held_until == world.now + LEASE

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    (record,) = caplog.records
    assert "declared dead" in record.getMessage()
    assert "Its 12 runs are no longer driven here" in record.getMessage()


def test_a_heartbeat_that_took_long_is_followed_by_another_one_at_once() -> None:
    """It has waited for the server, and the lease that it brought is over already: others would see that."""

    async def main() -> None:
        world = World()
        await world.join()
        beat, beats = world.store.heartbeat, 0

        async def takes_long(worker: int, sign: Heartbeat) -> bool:
            nonlocal beats
            beats += 1
            if beats == 1:
                world.now += 2 * LEASE
            return await beat(worker, sign)

        world.store.heartbeat = takes_long  # type: ignore[method-assign]
        keeping = asyncio.ensure_future(world.fleet._keep_lease())
        await asyncio.sleep(0)
        world.now += LEASE / 3
        while beats < 2:
            await asyncio.sleep(0.01)
        keeping.cancel()
        (row,) = await world.store.workers()
        assert (row.lease_until, row.runs, row.steps, row.stopping) == (world.now + LEASE, 7, 3, False)

    asyncio.run(main())


def test_a_worker_that_stops_keeps_its_lease_and_leaves_the_others_alone() -> None:
    async def main() -> None:
        world = World()
        await world.join()
        await world.another(host=host_identity(), born=1, pid=2**22 + 1)
        world.fleet.stop()
        world.calls.clear()
        supervising = asyncio.ensure_future(world.fleet.supervise())
        while len(world.calls) < 5:
            await asyncio.sleep(0.01)
            world.now += 1.0
        supervising.cancel()
        assert set(world.calls) == {"heartbeat"}
        assert (await world.store.workers())[0].stopping

    asyncio.run(main())


def test_the_supervision_outlives_its_own_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Else the worker would be taken for dead while it drives runs."""

    async def main() -> None:
        world = World()
        await world.join()
        suspects, looks = world.store.suspects, 0

        async def fails_first(host: str, *, lapsed_before: float) -> Any:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise RuntimeError("a test says so")
            return await suspects(host, lapsed_before=lapsed_before)

        world.store.suspects = fails_first  # type: ignore[method-assign]
        supervising = asyncio.ensure_future(world.fleet.supervise())
        while looks < 2:
            await asyncio.sleep(0.01)
        supervising.cancel()

    asyncio.run(main())
    assert "will try again" in caplog.text


def test_a_machine_may_be_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    here = host_identity()
    monkeypatch.setenv("PERDURE_HOST", "elsewhere")
    assert host_identity() == "|".join(["elsewhere", *here.split("|")[1:]])


def test_the_lease_is_kept_while_looking_after_others_has_to_wait() -> None:
    """For a lock of a worker that is stopped, say."""

    async def main() -> None:
        world = World()
        await world.join()

        async def never(**_: Any) -> int:
            return await asyncio.get_running_loop().create_future()

        world.store.strand = never  # type: ignore[method-assign]
        supervising = asyncio.ensure_future(world.fleet.supervise())
        while "strand" not in world.calls:
            await asyncio.sleep(0.01)
        world.calls.clear()
        while world.calls.count("heartbeat") < 3:
            await asyncio.sleep(0.01)
            world.now += LEASE / 100
        supervising.cancel()

    asyncio.run(main())


def test_who_is_not_heard_of_itself_buries_nobody_for_that() -> None:
    async def main() -> None:
        world = World()
        await world.join()
        await world.another()
        world.now += 2 * LEASE  # its own heartbeat doesn't come through, either
        await world.fleet._bury_the_dead()
        assert await world.names() == ["me", "other"]

    asyncio.run(main())
