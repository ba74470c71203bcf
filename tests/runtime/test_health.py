"""What counts as alive, what as ready, and why they differ."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from perdure import Engine
from perdure.errors import StoreUnavailableError
from perdure.runtime import health
from perdure.runtime.health import Examiner


class Store:
    """A store that answers, or doesn't."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.silent = False
        self.asked = 0

    async def crowd(self) -> int:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return 1


class Member:
    def __init__(self) -> None:
        self.why: str | None = None
        self.waits = 0.0

    def unfit(self) -> str | None:
        return self.why

    def waiting(self) -> float:
        return self.waits


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "ANSWER_WITHIN", 0.05)


def examined(store: Store, member: Member | None = None, *, file: bool = True) -> health.Health:
    async def look() -> health.Health:
        examiner = Examiner(store, asyncio.get_running_loop(), file=file)
        try:
            return await examiner.examine(member)
        finally:
            examiner.close()

    return asyncio.run(look())


def test_all_is_well() -> None:
    assert examined(Store(), Member()) == health.Health(True, True, [])
    assert examined(Store()) == health.Health(True, True, [])


def test_a_database_that_is_away_is_no_reason_to_end_a_process() -> None:
    store = Store()
    store.error = StoreUnavailableError("postgresql://secret@host is away")
    assert examined(store, file=False) == health.Health(True, False, ["the database doesn't answer"])
    store.error, store.silent = None, True
    assert examined(store, file=False) == health.Health(True, False, ["the database doesn't answer"])


def test_a_file_that_keeps_somebody_waiting_for_long_is(monkeypatch: pytest.MonkeyPatch) -> None:
    store, member = Store(), Member()
    member.waits = health.STUCK_AFTER - 1
    assert examined(store, member).live
    member.waits = health.STUCK_AFTER + 1
    found = examined(store, member)
    assert not found.live
    assert not found.ready
    assert "kept it waiting for 61 s" in found.reasons[0]
    assert examined(store, member, file=False).live, "a server's absence isn't cured by a restart"
    member.waits = 0
    store.silent = True
    assert examined(store, member).live, "not yet"
    monkeypatch.setattr(health, "STUCK_AFTER", 0.01)
    assert not examined(store, member).live


def test_a_worker_without_a_lease_isnt_ready() -> None:
    member = Member()
    member.why = "the worker couldn't renew its lease"
    assert examined(Store(), member) == health.Health(True, False, [member.why])


def test_those_who_ask_while_one_waits_share_its_look() -> None:
    async def look() -> None:
        store = Store()
        store.silent = True
        examiner = Examiner(store, asyncio.get_running_loop(), file=True)
        await asyncio.gather(*(examiner.examine(None) for _ in range(20)))
        await examiner.examine(None)
        assert store.asked == 1
        examiner.close()

    asyncio.run(look())


def test_an_engine_tells_from_before_it_is_open_until_it_is_closed() -> None:
    async def life() -> None:
        engine = Engine("memory:")
        assert await engine.health() == health.Health(True, False, (health.STARTING,))
        async with engine:
            assert (await engine.health()).ready
        assert await engine.health() == health.Health(True, False, (health.STOPPING,))

    asyncio.run(life())


def test_a_writer_that_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a disk that doesn't come back: its thread waits within the system, and takes nothing any more."""

    async def life() -> None:
        engine = Engine(f"sqlite:///{tmp_path / 'runs.db'}", lease=0.5)
        async with engine, asyncio.timeout(60):
            assert (await engine.health()).ready
            monkeypatch.setattr(health, "STUCK_AFTER", 0.5)
            mutex: threading.Lock = engine._store._writer._mutex  # type: ignore[attr-defined]
            await asyncio.to_thread(mutex.acquire)
            try:
                while (found := await engine.health()).live:
                    await asyncio.sleep(0.05)
                assert not found.ready
            finally:
                mutex.release()
            while not (await engine.health()).ready:
                await asyncio.sleep(0.05)

    asyncio.run(life())
