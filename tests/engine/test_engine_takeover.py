"""Engines that take runs over from each other: by crash, by age, by closing. Nothing is done twice."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from engine_kit import (
    Place,
    Wrapped,
    bury,
    crash,
    greets,
    history,
    of_kind,
    reaches,
    recorded,
    run,
    says,
    until,
    works,
)

import perdure
from perdure import events, step, workflow
from perdure.codec.events import decode_event
from perdure.errors import StoreUnavailableError
from perdure.runtime.attempt import Attempt
from perdure.runtime.steps import StepExecutor
from perdure.storage.protocol import Store
from perdure.storage.records import Append, Appended, History, Stale

BODIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}


@step
async def does(label: str) -> str:
    BODIES[label] += 1
    return label


@step
async def waits_at(gate: str) -> str:
    BODIES[gate] += 1
    await GATES[gate].wait()
    return gate


@step
def works_in_a_thread(label: str, seconds: float) -> str:
    BODIES[label] += 1
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not perdure.step_info().cancelled:
        time.sleep(0.005)
    return label


@workflow
async def passes(gate: str) -> list[str]:
    return [await does("before"), await waits_at(gate), await does("after")]


def beats_soon(engine: perdure.Engine) -> None:
    """It needn't wait for a third of its lease: it has news for the others, as when a module was imported."""
    assert engine._worker is not None
    engine._worker._fleet._announced = 0


def test_a_stale_driver_drops_its_run_and_writes_nothing_more(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        BODIES.clear()
        GATES["g"] = asyncio.Event()
        async with place.engine() as first:
            handle = await first.start(passes("g"), id="a")
            await until(lambda: BODIES["g"] == 1)
            assert first._worker is not None
            id = first._worker.id
            await bury(place)  # behind its back, as when it was paused past its lease
            async with place.engine() as second:
                await until(lambda: BODIES["g"] == 2)
                GATES["g"].set()
                assert await second.get("a").result() == ["before", "g", "after"]
                beats_soon(first)
                await until(lambda: first._worker.id != id)  # type: ignore[union-attr]
                assert not first._worker.drivers
                assert len(await recorded(handle)) == 3
                assert await handle.result() == ["before", "g", "after"]
                await works(first)
        assert BODIES == {"before": 1, "g": 2, "after": 1}

    with caplog.at_level(logging.WARNING):
        run(main)
    assert any("no longer driven here" in record.getMessage() for record in caplog.records)


def test_a_worker_that_was_declared_dead_signs_up_again(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        GATES["g"] = asyncio.Event()
        async with place.engine() as engine:
            handle = await engine.start(passes("g"), id="a")
            await until(lambda: BODIES["g"] == 1)
            await bury(place)
            beats_soon(engine)
            await until(lambda: BODIES["g"] == 2)  # by itself, under its new id
            GATES["g"].set()
            assert await handle.result() == ["before", "g", "after"]
            assert BODIES["before"] == BODIES["after"] == 1
            assert len(await of_kind(handle, events.RunRecovered)) == 1

    run(main)


def test_a_run_that_takes_its_workers_down_again_and_again_is_blocked(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        GATES["never"] = asyncio.Event()
        async with place.engine(worker=False) as client:
            handle = await client.start(passes("never"), id="a")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("perdure.runtime.residency.NOTE_AFTER", 1000.0)  # so that nothing is recorded
                for number in (1, 2, 3, 4):
                    async with place.engine(max_recoveries=2) as engine:
                        if number < 4:
                            await until(lambda n=number: BODIES["never"] == n)
                            await crash(engine)
                    await bury(place, max_recoveries=2)
            await reaches(handle, "blocked")
            info = await handle.info()
            assert "3" in (info.reason or ""), info.reason
            async with place.engine() as engine:
                await works(engine)
                assert await handle.status() == "blocked"  # it waits for a person
        assert BODIES["before"] == 1

    run(main)


@pytest.mark.parametrize("grace", [5.0, 0.05])
def test_closing_lets_steps_finish_or_hands_them_back(place: Place, grace: float) -> None:
    @workflow(name="takeover.two_kinds")
    async def two_kinds() -> list[str]:
        return [
            await does("before"),
            *await asyncio.gather(waits_at("g"), works_in_a_thread("thread", 0.2 if grace > 1 else 1.0)),
            await does("after"),
        ]

    async def main() -> None:
        BODIES.clear()
        GATES["g"] = asyncio.Event()
        async with place.engine(grace=grace) as engine:
            await engine.start(two_kinds(), id="a")
            await until(lambda: BODIES["g"] == BODIES["thread"] == 1)
            if grace > 1:
                asyncio.get_running_loop().call_later(0.05, GATES["g"].set)
        GATES["g"].set()
        async with place.engine() as engine:
            handle = engine.get("a")
            assert await handle.result() == ["before", "g", "thread", "after"]
            assert len(await recorded(handle)) == 4
            assert await of_kind(handle, events.RunRecovered) == []
        assert BODIES["before"] == BODIES["after"] == 1
        assert BODIES["g"] == BODIES["thread"] == (1 if grace > 1 else 2)

    run(main)


@workflow
async def works_a_little(number: int) -> int:
    for index in range(4):
        await does(f"{number}.{index}")
        await asyncio.sleep(0.01)
    return number


def test_engines_on_one_database_share_its_runs(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        async with place.engine(worker=False) as client:
            handles = await client.start_many([works_a_little(number) for number in range(100)])
            engines = [place.engine(max_resident=30) for _ in range(3)]
            for engine in engines:
                await engine.__aenter__()
            await asyncio.sleep(0.03)
            await crash(engines[0])
            await engines[1].close()
            await bury_the_crashed(engines[0])
            assert [await handle.result() for handle in handles] == list(range(100))
            await engines[2].close()
            for handle in handles:
                assert len(await recorded(handle)) == 4
        assert len(BODIES) == 400
        assert sum(BODIES.values()) <= 400 + 100  # only what was executing at the crash was done again

    async def bury_the_crashed(engine: Any) -> None:
        store = place.store()
        await store.open()
        for worker in await store.workers():
            if worker.id == engine._worker.id:
                await store.bury(worker.id, worker.lease_until, now=time.time(), max_recoveries=10)
        await store.close()

    run(main)


def test_a_client_gets_results_that_others_make(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(greets("you"), id="a")
            waiting = asyncio.ensure_future(handle.result())
            await asyncio.sleep(0.02)
            assert await handle.status() == "queued"
            async with place.engine():
                assert await waiting == "hello you"
                results = await asyncio.gather(*(client.run(greets(str(n))) for n in range(50)))
                assert results == [f"hello {n}" for n in range(50)]
            later = await client.start(greets("later"))
            with pytest.raises(TimeoutError):
                await later.result(timeout=0.02)

    run(main)


class LoadFails(Wrapped):
    """Can't read the first histories it is asked for."""

    left = 2

    async def load(self, runs: Any) -> Any:
        if self.left:
            self.left -= 1
            raise StoreUnavailableError("a test says so")
        return await self.inner.load(runs)


class VerbsFail(Wrapped):
    """Everything but appends fails now and then."""

    calls = 0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        if name not in ("claim", "mail", "workers", "heartbeat", "strand", "owned", "get", "last_event"):
            return verb

        async def sometimes(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls % 3 == 2:
                raise StoreUnavailableError(f"{name}: a test says so")
            return await verb(*args, **options)

        return sometimes


class ClaimsBreak(Wrapped):
    """Claiming raises what it never should."""

    left = 2

    async def claim(self, *args: Any, **options: Any) -> Any:
        if self.left:
            self.left -= 1
            raise RuntimeError("a test says so")
        return await self.inner.claim(*args, **options)


@pytest.mark.parametrize("wrap", [LoadFails, VerbsFail, ClaimsBreak])
def test_a_store_that_fails_to_answer_for_a_while_strands_no_run(place: Place, wrap: Any) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handles = [await client.start(greets(str(number))) for number in range(5)]
            async with place.engine(wrap):
                handles += [await client.start(greets(str(number))) for number in range(5, 10)]
                assert [await handle.result() for handle in handles] == [f"hello {n}" for n in range(10)]
                await client.get(handles[0].id).cancel()

    run(main)


def test_a_cancelled_main_still_hands_its_runs_back(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        GATES["g"] = asyncio.Event()

        async def program() -> None:
            async with place.engine(grace=0.01) as engine:
                await engine.run(passes("g"), id="a")

        running = asyncio.ensure_future(program())
        await until(lambda: BODIES["g"] == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        GATES["g"].set()
        async with place.engine() as engine:
            assert await engine.run(passes("g"), id="a") == ["before", "g", "after"]
            assert await engine.run(greets(await says("x"))) == "hello x"
        assert BODIES["before"] == 1

    run(main)


@workflow
async def does_once(label: str) -> str:
    return await does(label)


class SlowToLoad(Wrapped):
    """What it reads is on its way until it may arrive."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def load(self, runs: Sequence[int]) -> list[History]:
        found = await self.inner.load(runs)
        self.asked.set()
        await self.may.wait()
        return found


def test_a_claim_that_was_on_its_way_when_its_worker_was_declared_dead_is_void(place: Place) -> None:
    """Its new lease doesn't cover the run, which somebody else drives by now."""
    stores: list[SlowToLoad] = []

    def slow(inner: Store) -> SlowToLoad:
        stores.append(SlowToLoad(inner))
        return stores[-1]

    async def main() -> None:
        BODIES.clear()
        async with place.engine(slow, lease=0.6) as engine:
            worker = engine._worker
            assert worker is not None
            before = worker.id
            async with place.engine(worker=False) as client:
                handle = await client.start(does_once("void claim"), id="r")
                await stores[0].asked.wait()
                while worker.id == before:  # a heartbeat may come in between
                    await bury(place)
                    await asyncio.sleep(0.01)
                async with place.engine() as other:
                    assert await other.get("r").result() == "void claim"
                await until(lambda: worker.id != 0)
                stores[0].may.set()
                await asyncio.sleep(0.1)  # were it driven here, its body would begin at once
                assert await handle.result() == "void claim"
        assert BODIES["void claim"] == 1

    run(main)


def test_an_attempt_that_is_cancelled_before_its_first_turn_leaves_its_place(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker may be declared dead in the very turn of the event loop in which it begins."""
    begin = StepExecutor._begin
    dropped: list[str] = []

    def begin_and_drop(executor: StepExecutor, attempt: Attempt) -> None:
        begin(executor, attempt)
        if not dropped:
            dropped.append(attempt.operation.id)
            attempt.cancel()

    async def main() -> None:
        monkeypatch.setattr(StepExecutor, "_begin", begin_and_drop)
        async with place.engine(concurrency=1) as engine:
            await engine.start(does_once("dropped"), id="dropped")
            await until(lambda: dropped)
            await works(engine)
            assert engine._worker is not None
            assert not engine._worker.steps.executing

    run(main)


class Reluctant(Wrapped):
    """Refuses the first end of a timer, and takes the second only once it may; until what follows is written, it
    lets no worker sign off."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.offered = 0
        self.may, self.written = asyncio.Event(), asyncio.Event()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        if any(isinstance(decode_event(data), events.TimerFired) for one in batch for data in one.events):
            self.offered += 1
            return asyncio.ensure_future(self._later(batch))
        done = self.inner.append(batch)
        if self.may.is_set():
            done.add_done_callback(lambda _: self.written.set())
        return done

    async def _later(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        if self.offered == 1:
            raise StoreUnavailableError("the disk is full (a test says so)")
        await self.may.wait()
        return await self.inner.append(batch)

    async def retire(self, worker: int, *, now: float) -> None:
        await self.written.wait()
        await self.inner.retire(worker, now=now)


@workflow
async def sleeps_and_does(label: str) -> str:
    await asyncio.sleep(0.01)
    return await does(label)


def test_a_run_whose_timer_fires_while_its_worker_closes_goes_on(place: Place) -> None:
    """The end of the timer is on its way to a store in trouble when the run is handed back."""
    stores: list[Reluctant] = []

    def reluctant(inner: Store) -> Reluctant:
        stores.append(Reluctant(inner))
        return stores[-1]

    async def main() -> None:
        BODIES.clear()
        engine = place.engine(reluctant)
        async with engine:
            handle = await engine.start(sleeps_and_does("late"), id="r")
            await until(lambda: stores[0].offered == 2)
            assert engine._worker is not None
            (driver,) = engine._worker.drivers.values()
            closing = asyncio.create_task(engine.close())
            await until(lambda: driver._handover is not None)
            stores[0].may.set()
            await closing
        async with place.engine() as other:
            assert await other.get("r").result() == "late"
            assert [type(event).__name__ for event in await history(other.get(handle.id))][1:3] == [
                "TimerFired",
                "StepCompleted",
            ]

    run(main)


class HoldsCancellations(Wrapped):
    """Takes no cancellation before it may."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def send(self, id: str, data: bytes, **options: Any) -> Any:
        if isinstance(decode_event(data), events.CancelRequested):
            self.asked.set()
            await self.may.wait()
        return await self.inner.send(id, data, **options)


@workflow
async def waits_for_ever() -> None:
    await perdure.receive("nothing")


@workflow
async def calls_a_child_off() -> str:
    child = await perdure.start(waits_for_ever())
    await child.cancel()
    try:
        await child.result()
    except perdure.RunCancelled:
        return "called off"
    return "it ended"


def test_a_run_stays_until_its_childs_cancellation_is_there(place: Place) -> None:
    """Were it handed back before, and its worker died, nobody would call the child off."""
    stores: list[HoldsCancellations] = []

    def holding(inner: Store) -> HoldsCancellations:
        stores.append(HoldsCancellations(inner))
        return stores[-1]

    async def main() -> None:
        engine = place.engine(holding, evict_after=0.0)
        async with engine:
            await engine.start(calls_a_child_off(), id="r")
            await stores[0].asked.wait()
            await reaches(engine.get("r"), "waiting")
            await asyncio.sleep(0.3)
            await crash(engine)
        await bury(place)
        async with place.engine() as other:
            assert await other.get("r").result() == "called off"

    run(main)
