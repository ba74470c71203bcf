"""Streams: in order, each item once, void items told, live while the run goes on, and kept after its end."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from engine_kit import Place, bury, crash, history, of_kind, reaches, run, until

import perdure
from perdure import Engine, NotSerializableError, Retry, StreamItem, emit, events, step, workflow
from perdure.codec.events import encode_event
from perdure.errors import StaleWorkerError, UsageError
from perdure.runtime.listeners import Listeners

GATES: dict[str, asyncio.Event] = {}
SEEN: list[Any] = []


@step(name="streams.says")
async def says(*words: str) -> int:
    for word in words:
        emit("words", word)
    return len(words)


@step(name="streams.in_thread")
def in_thread(*words: str) -> str:
    for word in words:
        emit("words", word)
    return threading.current_thread().name


@step(name="streams.falters", retry=Retry(max_attempts=3, initial=0.001))
async def falters() -> int:
    attempt = perdure.step_info().attempt
    emit("words", f"{attempt}a")
    emit("other", attempt)
    if attempt < 3:
        raise OSError("again")
    emit("words", f"{attempt}b")
    return attempt


@step(name="streams.waits")
async def waits(gate: str, *words: str) -> str:
    for word in words:
        emit("words", word)
    await GATES[gate].wait()
    return gate


@workflow(name="streams.story")
async def story() -> str:
    emit("words", "begin")
    await says("one", "two")
    await in_thread("three")
    emit("words", "end")
    return "told"


@workflow(name="streams.faltering")
async def faltering() -> int:
    return await falters()


@workflow(name="streams.waiting")
async def waiting(gate: str, *words: str) -> str:
    return await waits(gate, *words)


async def read(engine: Engine, id: str = "a", name: str = "words", **options: Any) -> list[StreamItem[Any]]:
    return [item async for item in engine.get(id).stream(name, **options)]


def told(items: list[StreamItem[Any]]) -> list[Any]:
    return [item.value if item.kind == "item" else f"void {item.attempt}" for item in items]


def test_what_workflow_and_steps_emit_is_read_in_order(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(story(), id="a")
            items = await read(engine)
            assert told(items) == ["begin", "one", "two", "three", "end"]
            assert [item.offset for item in items] == [1, 2, 3, 4, 5]
            assert [item.step for item in items] == [
                None, "streams.says#1", "streams.says#1", "streams.in_thread#1", None,
            ]  # fmt: skip
            assert [item.attempt for item in items] == [None, 1, 1, 1, None]
            assert told(await read(engine, after=3)) == ["three", "end"]
            assert await read(engine, after=5) == []
            assert await read(engine, name="unknown") == []
        async with place.engine(worker=False) as client:  # it stays after the run's end
            assert told(await read(client)) == ["begin", "one", "two", "three", "end"]

    run(main)


def test_a_value_is_read_as_the_type_asked_for(place: Place) -> None:
    @dataclass
    class Progress:
        done: int
        of: int

    @workflow(name="streams.typed")
    async def typed() -> None:
        emit("progress", Progress(1, 2))

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(typed(), id="a")
            (item,) = await read(engine, name="progress")
            assert item.value == {"done": 1, "of": 2}
            (item,) = await read(engine, name="progress", type=Progress)
            assert item.value == Progress(1, 2)
            with pytest.raises(perdure.errors.UndecodableError, match="item of stream progress"):
                await read(engine, name="progress", type=int)

    run(main)


def test_items_of_failed_attempts_are_void_and_live_readers_are_told(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(faltering(), id="a")
            live = told([item async for item in handle.stream("words")])
            assert live[-2:] == ["3a", "3b"]
            for attempt in (1, 2):  # a live reader gets both, or (if it came later) neither
                assert (f"{attempt}a" in live) == (f"void {attempt}" in live)
            assert told(await read(engine)) == ["3a", "3b"]
            assert told(await read(engine, superseded=True)) == ["1a", "void 1", "2a", "void 2", "3a", "3b"]
            assert told(await read(engine, name="other")) == [3]
            # a reader that has got 1a (offset 1) before has to learn that it is void
            assert told(await read(engine, after=1)) == ["void 1", "3a", "3b"]
            assert told(await read(engine, after=2)) == ["3a", "3b"]

    run(main)


def test_a_live_reader_gets_an_item_before_its_step_ends(place: Place) -> None:
    async def main() -> None:
        GATES["live"] = asyncio.Event()
        async with place.engine() as engine, place.engine(worker=False) as client:
            handle = await engine.start(waiting("live", "x", "y"), id="a")
            await until(lambda: _is_there(client, "a"))
            near, far = handle.stream("words"), client.get("a").stream("words")
            for stream in (near, far):
                assert [(await anext(stream)).value, (await anext(stream)).value] == ["x", "y"]
            assert not any(isinstance(event, events.StepCompleted) for event in await history(handle))
            GATES["live"].set()
            for stream in (near, far):
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)

    run(main)


async def _is_there(engine: Engine, id: str) -> bool:
    return bool([item async for item in engine.runs(text=id)])


def test_readers_are_woken_and_need_not_poll(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the process of the worker and in another: with polls that never come, everything still arrives."""
    monkeypatch.setattr("perdure.runtime.listeners.POLL_EVERY", 1000.0)

    async def main() -> None:
        GATES["woken"] = asyncio.Event()
        async with place.engine() as engine, place.engine(worker=False) as client:
            handle = await engine.start(waiting("woken", "x"), id="a")
            readers = [
                asyncio.ensure_future(read(reader, "a")) for reader in (engine, client) for _ in range(3)
            ]
            await reaches(handle, "running")
            await until(lambda: sum(len(waiting) for waiting in _waiting(engine, client)) == 6)
            GATES["woken"].set()
            for reader in readers:
                assert told(await reader) == ["x"]
            assert _waiting(engine, client) == []

    run(main)


def _waiting(*engines: Engine) -> list[Any]:
    listeners: list[Listeners] = [engine._connection.listeners for engine in engines if engine._connection]
    return [waiting for listener in listeners for waiting in listener._waiting.values()]


def test_a_lost_attempt_s_items_are_void_when_another_worker_takes_over(place: Place) -> None:
    async def main() -> None:
        GATES["lost"] = asyncio.Event()
        async with place.engine() as engine:
            await engine.start(waiting("lost", "x", "y"), id="a")
            stream = engine.get("a").stream("words")
            assert [(await anext(stream)).value for _ in range(2)] == ["x", "y"]
            await crash(engine)
        await bury(place)
        GATES["lost"] = asyncio.Event()
        async with place.engine() as engine:
            stream = engine.get("a").stream("words", after=2)
            GATES["lost"].set()
            assert told([item async for item in stream]) == ["void 1", "x", "y"]
            assert told(await read(engine)) == ["x", "y"]

    run(main)


def test_a_zombie_writes_nothing_and_its_steps_are_told(place: Place) -> None:
    @step(name="streams.goes_on")
    async def goes_on(gate: str) -> str:
        emit("words", f"before {gate}")
        await GATES[gate].wait()
        for n in itertools.count():
            try:
                emit("words", f"zombie {n}")
            except StaleWorkerError as error:
                SEEN.append(error)
                raise
            await asyncio.sleep(0.001)
        return "never"

    @step(name="streams.after")
    async def after() -> None:
        emit("words", "alive")

    async def main() -> None:
        SEEN.clear()
        GATES["zombie"] = asyncio.Event()

        @workflow(name="streams.zombie")
        async def zombie() -> str:
            await goes_on("zombie")
            return "done"

        async with place.engine() as engine:
            handle = await engine.start(zombie(), id="a")
            await anext(handle.stream("words"))
            # Else that note is what tells the worker, which then ends the step before it has emitted again.
            await until(lambda: _has(handle, events.StepStarted))
            store = place.store()
            await store.open()
            end = encode_event(events.RunTerminated(at=time.time()))
            await store.terminate("a", end, now=time.time())  # another epoch; this worker hears of it late
            GATES["zombie"].set()
            await until(lambda: SEEN)
            assert "another worker drives" in str(SEEN[0])
            page = await store.streams.read("a", "words", after=0, limit=10)
            assert page is not None
            assert [item.data for item in page.rows] == [b'"before zombie"']
            await store.close()

    run(main)
    assert len(SEEN) == 1


def test_many_items_go_in_few_commits(place: Place) -> None:
    @step(name="streams.floods")
    async def floods(count: int) -> None:
        for n in range(count):
            emit("words", n)
            if n % 100 == 0:
                await asyncio.sleep(0)

    @workflow(name="streams.flood")
    async def flood() -> None:
        await floods(3000)

    async def main() -> None:
        calls: Counter[str] = Counter()

        class Counting:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            def __getattr__(self, name: str) -> Any:
                calls[name] += 1
                return getattr(self.inner, name)

        async with place.engine() as engine:
            assert engine._worker is not None
            outbox = engine._worker._outbox
            store: Any = outbox._store

            class Store:
                streams = Counting(store.streams)

            outbox._store = Store()  # type: ignore[assignment]
            await engine.run(flood(), id="a")
            assert told(await read(engine)) == list(range(3000))
            assert calls["emit"] < 200

    run(main)


def test_what_cannot_be_emitted_is_refused_where_it_is_emitted(place: Place) -> None:
    @step(name="streams.refused")
    async def refused() -> None:
        emit("words", object())

    @workflow(name="streams.refusing")
    async def refusing() -> list[str]:
        found: list[str] = []
        for stream, item in (("", 1), ("x\n", 1), ("words", object()), ("words", float("nan"))):
            try:
                emit(stream, item)
            except (UsageError, NotSerializableError) as error:
                found.append(type(error).__name__)
        with pytest.raises(NotSerializableError):
            await refused()
        return found

    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(refusing(), id="a")
            assert told == ["UsageError", "UsageError", "NotSerializableError", "NotSerializableError"]
            assert await read(engine) == []
            with pytest.raises(perdure.UnknownRunError):
                await read(engine, "nobody")

    run(main)
    emit("outside", {"of": "runs"})  # does nothing
    with pytest.raises(UsageError):
        emit("", 1)


def test_a_reader_without_follow_stops_at_what_is_there(place: Place) -> None:
    async def main() -> None:
        GATES["there"] = asyncio.Event()
        async with place.engine() as engine:
            handle = await engine.start(waiting("there", "x"), id="a")
            await anext(handle.stream("words"))
            assert told(await read(engine, follow=False)) == ["x"]
            GATES["there"].set()
            await handle.result()

    run(main)


def test_replay_emits_nothing_again(place: Place) -> None:
    @workflow(name="streams.evicted")
    async def evicted() -> None:
        emit("words", "before")
        await perdure.receive("go")
        emit("words", "after")

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(evicted(), id="a")
            assert engine._worker is not None
            drivers = engine._worker.drivers
            await until(lambda: _has(handle, events.MessageAwaited))
            await until(lambda: not drivers)
            await handle.send("go", None)
            await handle.result()
            assert told(await read(engine)) == ["before", "after"]
            assert [event.op for event in await of_kind(handle, events.Emitted)] == ["emit:1", "emit:2"]

    run(main)


async def _has(handle: Any, kind: Any) -> bool:
    return bool(await of_kind(handle, kind))


def test_a_reader_hears_that_its_engine_was_closed(place: Place) -> None:
    async def main() -> None:
        GATES["closing"] = asyncio.Event()
        async with place.engine() as engine:
            await engine.start(waiting("closing", "x"), id="a")
            async with place.engine(worker=False) as client:
                stream = client.get("a").stream("words")
                assert (await anext(stream)).value == "x"
                reading = asyncio.ensure_future(anext(stream))
                await until(lambda: _waiting(client))
            with pytest.raises(perdure.errors.EngineClosedError):
                await reading
            GATES["closing"].set()
            await engine.get("a").result()

    run(main)


def test_an_attempt_that_timed_out_in_its_thread_adds_nothing(place: Place) -> None:
    released = threading.Event()

    @step(name="streams.overstays", retry=Retry(max_attempts=9, initial=0.001), timeout=0.1)
    def overstays() -> int:
        attempt = perdure.step_info().attempt
        emit("words", f"{attempt} in time")
        if attempt == 1:
            released.wait(60)
            emit("words", "too late")
            SEEN.append("emitted late")
        return attempt

    @workflow(name="streams.overstaying")
    async def overstaying() -> int:
        return await overstays()

    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            handle = await engine.start(overstaying(), id="a")
            last = await handle.result()  # on a slow machine, others may be late, too
            released.set()
            await until(lambda: SEEN)
            late = [word for n in range(1, last) for word in (f"{n} in time", f"void {n}")]
            assert late[:2] == ["1 in time", "void 1"]
            assert told(await read(engine, superseded=True)) == [*late, f"{last} in time"]

    run(main)


def test_a_stream_goes_on_in_the_next_generation(place: Place) -> None:
    @workflow(name="streams.chain")
    async def chain(left: int) -> int:
        emit("words", left)
        if left:
            perdure.continue_as(chain(left - 1))
        return left

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(chain(3), id="a")
            assert told([item async for item in handle.stream("words")]) == [3, 2, 1, 0]
            assert await handle.result() == 0

    run(main)


def test_a_retried_run_takes_back_what_its_failed_step_has_emitted(place: Place) -> None:
    broken = [True]

    @step(name="streams.breaks")
    async def breaks() -> str:
        emit("words", "half")
        if broken:
            raise ValueError("broken")
        emit("words", "whole")
        return "mended"

    @workflow(name="streams.retried")
    async def retried() -> str:
        emit("words", "begin")
        await says("one")
        return await breaks()

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(retried(), id="a")
            with pytest.raises(perdure.RunFailed):
                await handle.result()
            assert told(await read(engine)) == ["begin", "one", "half"]
            broken.clear()
            await handle.retry()
            assert await handle.result() == "mended"
            assert told(await read(engine)) == ["begin", "one", "half", "whole"]
            assert told(await read(engine, after=3)) == ["void 1", "half", "whole"]

    run(main)


@workflow(name="streams.chapters")
async def chapters(number: int) -> int:
    """The step of each generation has the same id, and fails once in the second."""
    await writes(number)
    if number == 1:
        perdure.continue_as(chapters(2))
    return number


@step(name="streams.writes", retry=Retry(max_attempts=2, initial=0.001))
async def writes(number: int) -> None:
    emit("words", f"{number}a")
    if number == 2 and perdure.step_info().attempt == 1:
        raise OSError("again")
    emit("words", f"{number}b")


def test_a_retry_takes_nothing_back_of_an_earlier_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            live: list[StreamItem[Any]] = []

            async def follow() -> None:
                async for item in engine.get("a").stream("words", superseded=True):
                    if item.since is None:
                        live.append(item)
                    else:
                        live[:] = [
                            each for each in live if each.step != item.step or each.offset < item.since
                        ]

            handle = await engine.start(chapters(1), id="a")
            following = asyncio.create_task(follow())
            assert await handle.result() == 2
            await following
            assert told(live) == ["1a", "1b", "2a", "2b"]
            assert len({item.step for item in live}) == 1
            # who comes later got nothing that is void, so there is nothing to be told of it
            assert told(await read(engine)) == ["1a", "1b", "2a", "2b"]
            assert told(await read(engine, after=2)) == ["2a", "2b"]
            assert told(await read(engine, after=3)) == ["void 1", "2a", "2b"]

    run(main)
