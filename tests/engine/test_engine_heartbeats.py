"""Heartbeats: a detail for the next attempt, after a failure and after a crash, without a growing history."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_kit import Place, Wrapped, bury, crash, history, of_kind, run, until

import perdure
from perdure import Retry, events, step, workflow
from perdure.runtime import heartbeats
from perdure.runtime.residency import NOTE_AFTER
from perdure.storage.effects import StepDetail
from perdure.storage.records import Append, Appended, Stale

SEEN: list[Any] = []
HELD = threading.Event()
BEGUN = threading.Event()


@pytest.fixture(autouse=True)
def fresh() -> Any:
    SEEN.clear()
    HELD.clear()
    BEGUN.clear()
    yield
    HELD.set()  # let threads end


def sees() -> int:
    info = perdure.step_info()
    SEEN.append(info.detail)
    return info.attempt


@step(retry=Retry(initial=0.001))
async def fails_after_beating() -> str:
    attempt = sees()
    perdure.heartbeat({"page": attempt})
    perdure.heartbeat()  # leaves the detail
    if attempt < 3:
        raise ValueError("not yet")
    return "done"


@step(retry=Retry(initial=0.001))
def fails_in_a_thread() -> str:
    attempt = sees()
    for page in range(attempt * 1000):
        perdure.heartbeat(page)
    if attempt < 3:
        raise ValueError("not yet")
    return "done"


@step
async def beats_and_hangs() -> str:
    sees()
    perdure.heartbeat(["half", "way"])
    if len(SEEN) > 1:
        return "done"
    BEGUN.set()
    await asyncio.sleep(60)
    return "never"


@workflow
async def async_beats() -> str:
    return await fails_after_beating()


@workflow
async def thread_beats() -> str:
    return await fails_in_a_thread()


@workflow
async def hangs() -> str:
    return await beats_and_hangs()


async def details(place: Place, id: str) -> list[Any]:
    store = place.store()
    await store.open()
    try:
        (row,) = await store.get([id])
        assert row is not None
        (found,) = await store.load([row.run])
        return list(found.details)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(async_beats, [None, {"page": 1}, {"page": 2}]), (thread_beats, [None, 999, 1999])],
)
def test_the_next_attempt_finds_the_newest_detail(place: Place, shape: Any, expected: list[Any]) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(shape(), id="a") == "done"
            assert expected == SEEN
            kinds = {type(event).__name__ for event in await history(engine.get("a"))}
            assert kinds <= {
                "RunStarted",
                "StepStarted",
                "StepAttemptFailed",
                "StepCompleted",
                "RunCompleted",
            }
        assert await details(place, "a") == []

    run(main)


def test_a_detail_survives_a_crash(place: Place) -> None:
    async def main() -> None:
        engine = place.engine()
        await engine.__aenter__()
        before = datetime.now(UTC)
        await engine.start(hangs(), id="a")

        async def written() -> bool:
            return bool(await details(place, "a"))

        await until(written)
        await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            assert await engine.get("a").result() == "done"
            assert [None, ["half", "way"]] == SEEN
            notes = [type(event).__name__ for event in await history(engine.get("a"))]
            assert notes.count("StepStarted") <= 2
        assert await details(place, "a") == []
        assert datetime.now(UTC) - before < timedelta(seconds=20)

    run(main)


def test_it_is_written_about_once_a_second(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the step beats, and with no event."""
    monkeypatch.setattr(heartbeats, "SAVE_EVERY", 0.05)
    writes: list[float] = []

    class Counting:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def append(self, batch: list[Append]) -> Any:
            for append in batch:
                if any(isinstance(effect, StepDetail) for effect in append.effects) and not append.events:
                    writes.append(time.monotonic())
            return self.inner.append(batch)

    @step
    def beats_a_while() -> int:
        count = 0
        while len(writes) < 4:
            perdure.heartbeat(count)
            count += 1
            time.sleep(0.0005)
        return count

    @workflow
    async def main_() -> int:
        return await beats_a_while()

    async def main() -> None:
        async with place.engine(Counting) as engine:
            assert await engine.run(main_(), id="a") > 20
            gaps = [later - earlier for earlier, later in itertools.pairwise(writes)]
            assert min(gaps) > 0.04
            assert len(await of_kind(engine.get("a"), events.StepStarted)) <= 1

    run(main)


def test_a_step_is_noted_once_though_the_log_was_being_written(place: Place) -> None:
    """When its start was to be noted, a detail was on its way to the store for longer than another look."""

    class Slow(Wrapped):
        def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
            details = any(isinstance(effect, StepDetail) for append in batch for effect in append.effects)
            return asyncio.ensure_future(self.later(batch, 3 * NOTE_AFTER if details else 0.0))

        async def later(self, batch: Sequence[Append], pause: float) -> list[Appended | Stale]:
            await asyncio.sleep(pause)
            return await self.inner.append(batch)

    @step
    async def beats_and_waits() -> str:
        perdure.heartbeat("here")
        await goes_on.wait()
        return "done"

    @workflow
    async def main_() -> str:
        return await beats_and_waits()

    async def noted(handle: perdure.Handle[Any]) -> int:
        return len(await of_kind(handle, events.StepStarted))

    async def main() -> None:
        async with place.engine(Slow) as engine:
            handle = await engine.start(main_(), id="a")
            await until(lambda: noted(handle))
            goes_on.set()
            assert await handle.result() == "done"
            assert await noted(handle) == 1

    goes_on = asyncio.Event()
    run(main)


@step(heartbeat_timeout=0.05, retry=Retry(initial=0.001, max_attempts=9))
async def falls_silent() -> str:
    for count in range(3):
        perdure.heartbeat(count)
        await asyncio.sleep(0.01)
    if sees() == 1:
        await asyncio.sleep(60)
    return "done"


@step(heartbeat_timeout=0.05, retry=Retry(initial=0.001, max_attempts=9))
def falls_silent_in_a_thread() -> str:
    if sees() == 1:
        HELD.wait(30)
        try:
            perdure.heartbeat("late")
        except asyncio.CancelledError as error:
            SEEN.append(str(error))
            raise
    return "done"


@workflow
async def silent() -> str:
    return await falls_silent()


@workflow
async def silent_in_a_thread() -> str:
    return await falls_silent_in_a_thread()


@pytest.mark.parametrize("shape", [silent, silent_in_a_thread])
def test_silence_fails_the_attempt(place: Place, shape: Any) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(shape(), id="a") == "done"
            # on a slow machine an attempt that isn't silent may be late, too
            failed, *_ = await of_kind(engine.get("a"), events.StepAttemptFailed)
            assert failed.failure.type == "builtins.TimeoutError"
            assert "gave no heartbeat for 0.05 s" in failed.failure.message
            if shape is silent_in_a_thread:
                HELD.set()
                await until(lambda: any("tidy up and return" in str(seen) for seen in SEEN))
                assert "late" not in SEEN

    run(main)


def test_beating_keeps_a_step_alive(place: Place) -> None:
    @step(heartbeat_timeout=0.2, retry=Retry(max_attempts=1))
    async def keeps_beating() -> str:
        for _ in range(40):
            perdure.heartbeat()
            await asyncio.sleep(0.01)
        return "done"

    @workflow
    async def main_() -> str:
        return await keeps_beating()

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(main_()) == "done"

    run(main)


def test_it_is_no_silence_when_the_loop_stood_still(memory: Place) -> None:
    @step(heartbeat_timeout=0.5, retry=Retry(max_attempts=1))
    async def beats_around_a_standstill() -> str:
        for _ in range(2):
            perdure.heartbeat()
            await asyncio.sleep(0.01)
            time.sleep(0.7)  # as when a laptop sleeps
        return "done"

    @workflow
    async def main_() -> str:
        return await beats_around_a_standstill()

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(main_()) == "done"

    run(main)


def test_a_cancelled_thread_is_told_by_its_next_heartbeat(place: Place) -> None:
    @step
    def works() -> str:
        BEGUN.set()
        try:
            while True:
                perdure.heartbeat("working")
                time.sleep(0.001)
        except asyncio.CancelledError:
            SEEN.append("tidied up")
            raise

    @workflow
    async def main_() -> str:
        return await works()

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(main_())
            await until(BEGUN.is_set)
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            await until(lambda: SEEN == ["tidied up"])

    run(main)


def test_details_of_steps_given_up_are_forgotten(place: Place) -> None:
    @workflow
    async def gives_up() -> str:
        try:
            async with asyncio.timeout(0.3):
                return await beats_and_hangs()
        except TimeoutError:
            await asyncio.sleep(0.2)
            return "gave up"

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(gives_up(), id="a")

            async def written() -> bool:
                return bool(await details(place, "a"))

            await until(written)

            async def forgotten() -> bool:
                return not await details(place, "a")

            await until(forgotten)
            assert await handle.result() == "gave up"

    run(main)


def test_misuse() -> None:
    @workflow
    async def beats() -> None:
        perdure.heartbeat(1)

    @step
    async def beats_nonsense() -> None:
        perdure.heartbeat(object())

    @step
    async def beats_too_much() -> None:
        perdure.heartbeat("x" * 100_000)

    @workflow
    async def main_(much: bool) -> None:
        await (beats_too_much() if much else beats_nonsense())

    async def main() -> None:
        perdure.heartbeat("outside of an engine it does nothing")
        async with perdure.Engine("memory:") as engine:
            with pytest.raises(perdure.RunFailed, match="only inside a step"):
                await engine.run(beats())
            with pytest.raises(perdure.RunFailed, match="detail of a heartbeat"):
                await engine.run(main_(False))
            with pytest.raises(perdure.RunFailed, match="PayloadTooLargeError"):
                await engine.run(main_(True))

    run(main)
