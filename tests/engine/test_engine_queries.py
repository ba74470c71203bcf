"""Queries: they look at a run wherever it is, change nothing, and leave no trace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pytest
from engine_kit import Place, crash, history, of_kind, reaches, redefine, run, says, until

import perdure
from perdure import (
    Engine,
    Handle,
    HandlerUnreachableError,
    ReadOnlyError,
    UnknownHandlerError,
    events,
    step,
    workflow,
)
from perdure.errors import NonDeterminismError, TurnLimitError


@dataclass
class Progress:
    done: list[str] = field(default_factory=list)
    due: date = date(2030, 1, 2)


class OutOfSorts(Exception):
    """What a handler raises."""


BODIES: list[str] = []
GATE: list[asyncio.Event] = []


@step
async def works_until_let_go(label: str) -> str:
    BODIES.append(label)
    await GATE[-1].wait()
    return label


@workflow
async def shows(steps: int) -> str:
    """Waits for a long time after its steps, and can be asked all the while."""
    state = Progress()
    flag = asyncio.Event()
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def waits_for_flag() -> str:
        await flag.wait()
        return "the flag was set"

    waiter = asyncio.ensure_future(waits_for_flag())
    getter = asyncio.ensure_future(queue.get())

    @perdure.on_query
    def progress() -> Progress:
        return state

    @perdure.on_query
    def since(day: date, *, days: int = 1) -> tuple[date, int]:
        return day, (state.due - day).days * days

    @perdure.on_query
    def fails(how: str) -> None:
        if how == "locally":

            class Local(Exception):
                pass

            raise Local(how)
        raise OutOfSorts(how)

    @perdure.on_query
    def unfit() -> int:
        return "text"  # type: ignore[return-value]

    @perdure.on_query
    def spins() -> int:
        while True:
            pass

    @perdure.on_query
    def acts(how: str) -> str:
        match how:
            case "sets an event":
                flag.set()
            case "fills a queue":
                queue.put_nowait(7)
            case "starts a task":
                asyncio.get_running_loop().create_task(waits_for_flag())
            case "starts a step":
                asyncio.ensure_future(says("never"))
            case "cancels a task":
                waiter.cancel()
            case "starts a timer":
                asyncio.get_running_loop().call_later(1.0, print)
            case "calls back":
                asyncio.get_running_loop().call_soon(print)
            case "makes a future":
                asyncio.get_running_loop().create_future()
            case "draws a number":
                perdure.random()
            case "draws a uuid":
                perdure.uuid4()
            case "registers a handler":
                perdure.on_query(progress)
            case "emits":
                perdure.emit("stream", 1)
            case "sets attributes":
                perdure.set_attributes(state="bad")
            case "opens a callback":
                perdure.callback(int)
            case "continues":
                perdure.continue_as(shows(1))
            case "exits":
                raise SystemExit
            case "catches":
                try:
                    perdure.random()
                except Exception:
                    return "caught"
        return "done"

    @perdure.on_query
    def opens_a_file() -> None:
        open("/dev/null")

    @perdure.on_query
    def returns_awaitable() -> Any:
        return says("never")

    @perdure.on_query
    def looks_around() -> list[Any]:
        perdure.log.info("looking around")
        return [perdure.info().id, perdure.now().year > 2000, asyncio.get_running_loop().time() > 0]

    for number in range(steps):
        state.done.append(await says(str(number)))
    try:
        async with asyncio.timeout(3600):
            return await waiter
    except asyncio.CancelledError:
        state.done.append("cancelled")
        raise
    finally:
        getter.cancel()


ACTS = [
    "sets an event",
    "fills a queue",
    "starts a task",
    "starts a step",
    "cancels a task",
    "starts a timer",
    "calls back",
    "makes a future",
    "draws a number",
    "draws a uuid",
    "registers a handler",
    "emits",
    "sets attributes",
    "opens a callback",
    "continues",
    "exits",
    "catches",
]


#: Written once a wait has lasted for a while, whether anybody asks or not.
NOTES = (events.TimerStarted, events.MessageAwaited)


async def waiting(engine: Engine, steps: int = 2) -> Handle[str]:
    handle = await engine.start(shows(steps), id="r")

    async def there() -> bool:
        return len((await handle.query("progress")).done) == steps

    await until(there)
    return handle


async def trace(handle: Handle[Any]) -> tuple[Any, ...]:
    """What a query must not change."""
    return await history(handle), await handle.status(), (await handle.info()).wake_at


# -- answers ------------------------------------------------------------------------------------------


def test_a_run_in_memory_answers_with_typed_values(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            before = [event for event in await history(handle) if not isinstance(event, NOTES)]
            answer = await handle.query("progress")
            assert answer == Progress(["0", "1"])
            answer.done.append("mine")  # the asker's own copy
            assert await handle.query("progress") == Progress(["0", "1"])
            assert await handle.query("since", date(2030, 1, 1)) == (date(2030, 1, 1), 1)
            assert await handle.query("since", day=date(2030, 1, 1), days=5) == (date(2030, 1, 1), 5)
            assert await handle.query("looks_around") == ["r", True, True]
            assert [event for event in await history(handle) if not isinstance(event, NOTES)] == before

    run(main)


def test_a_run_that_left_memory_answers_without_being_woken(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await waiting(engine)
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)
            before = await trace(handle)
            assert await handle.query("progress") == Progress(["0", "1"])
            with pytest.raises(ReadOnlyError):
                await handle.query("acts", "sets an event")
            assert worker.drivers == {}
            assert await trace(handle) == before

    run(main)


def test_an_ended_run_answers(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert await handle.query("progress") == Progress(["0", "1", "cancelled"])
            terminated = await engine.start(shows(0), id="t")
            await terminated.query("progress")
            await terminated.terminate()
            assert await terminated.query("progress") == Progress()

    run(main)


def test_a_run_answers_before_its_first_activation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(shows(2), id="r", delay=3600)
            before = await trace(handle)
            assert await handle.query("progress") == Progress()
            assert await trace(handle) == before
            assert before[1] == "queued"

    run(main)


def test_a_client_with_the_code_needs_no_worker(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await waiting(engine)
        async with place.engine(worker=False) as client:
            assert await client.get("r").query("progress") == Progress(["0", "1"])
        async with place.engine(worker=False, turn_limit=0.2) as client:
            with pytest.raises(TurnLimitError):
                await client.get("r").query("spins")

    run(main)


def test_another_engine_answers_from_the_history(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as driving, place.engine() as other:
            await waiting(driving)
            assert await other.get("r").query("progress") == Progress(["0", "1"])

    run(main)


def test_a_run_blocked_by_other_code_says_so_and_answers_when_that_fits(memory: Place) -> None:
    async def main() -> None:
        name = shows.name
        async with memory.engine() as engine:
            handle = await waiting(engine)

        async def another(steps: int) -> str:
            return await says("something else")

        redefine(name, another)
        try:
            async with memory.engine() as engine:
                handle = engine.get("r")
                await handle.cancel()  # which has to wait until the code fits
                await reaches(handle, "blocked")
                with pytest.raises(NonDeterminismError):
                    await handle.query("progress")
                redefine(name, shows.function)
                assert await handle.query("progress") == Progress(["0", "1"])
                assert await handle.status() == "blocked"
        finally:
            redefine(name, shows.function)

    run(main)


# -- refusals -----------------------------------------------------------------------------------------


def test_what_a_handler_raises_is_the_askers(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            with pytest.raises(OutOfSorts, match="today") as caught:
                await handle.query("fails", "today")
            assert "in fails" in caught.value.__notes__[0]
            with pytest.raises(perdure.HandlerFailed, match="Local: locally") as failed:
                await handle.query("fails", "locally")
            assert failed.value.type.endswith("Local")
            with pytest.raises(perdure.NotSerializableError, match="result of query unfit"):
                await handle.query("unfit")
            with pytest.raises(perdure.errors.ForbiddenInWorkflowError, match="opens a file"):
                await handle.query("opens_a_file")
            with pytest.raises(TypeError, match="missing 1 required"):
                await handle.query("since")
            with pytest.raises(TypeError, match="RFC3339"):
                await handle.query("since", "no date")
            with pytest.raises(perdure.NotSerializableError, match="input of query since"):
                await handle.query("since", object())
            with pytest.raises(perdure.NotSerializableError, match="input of query since"):
                await handle.query("since", float("nan"))
            assert await handle.query("progress") == Progress(["0", "1"])

    run(main)


def test_an_unknown_name_is_told_with_those_that_exist(place: Place) -> None:
    @workflow(name="queries.has_none")
    async def has_none() -> None:
        await says("x")

    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            with pytest.raises(
                UnknownHandlerError, match=r"no query handler 'nope'\. It has: acts, fails, looks_around"
            ):
                await handle.query("nope")
            await engine.run(has_none(), id="n")
            with pytest.raises(UnknownHandlerError, match=r"It has none; register one with perdure.on_query"):
                await engine.get("n").query("progress")
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").query("progress")

    run(main)


@pytest.mark.parametrize("how", ACTS)
def test_a_handler_that_acts_is_refused_and_changes_nothing(how: str, place: Place) -> None:
    """What asyncio's objects have become by then is forgotten: the run goes on from its history."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            before = await history(handle)
            with pytest.raises(ReadOnlyError, match="run 'r'"):
                await handle.query("acts", how)
            assert await handle.query("progress") == Progress(["0", "1"])
            with pytest.raises(ReadOnlyError):
                await handle.query("returns_awaitable")
            worker = engine._worker
            assert worker is not None
            await until(lambda: [driver for driver in worker.drivers.values() if driver.reception().sound()])
            assert await handle.query("progress") == Progress(["0", "1"])
            since = [event for event in await history(handle) if event not in before]
            assert all(isinstance(event, events.TimerStarted | events.RunRecovered) for event in since), since
            await handle.cancel("enough")
            with pytest.raises(perdure.RunCancelled, match="enough"):
                await handle.result()

    run(main)


@workflow
async def works(label: str) -> str:
    seen: list[str] = []
    flag = asyncio.Event()

    async def waits_for_flag() -> None:
        await flag.wait()
        seen.append("woken up")

    waiter = asyncio.ensure_future(waits_for_flag())

    @perdure.on_query
    def sets() -> None:
        flag.set()

    seen.append(await works_until_let_go(label))
    seen.append(str(flag.is_set()))
    waiter.cancel()
    return " ".join(seen)


def test_a_handler_that_acts_disturbs_no_step(place: Place) -> None:
    """The step that executes goes on; what it brings is seen by the code as the history says, and only then."""

    async def main() -> None:
        GATE.append(asyncio.Event())
        BODIES.clear()
        async with place.engine() as engine:
            handle = await engine.start(works("a"), id="r")
            await until(lambda: BODIES)
            for _ in range(3):
                with pytest.raises(ReadOnlyError):
                    await handle.query("sets")
            GATE[-1].set()
            assert await handle.result() == "a False"
            assert BODIES == ["a"]

    run(main)


def test_a_handler_that_spins_is_interrupted_and_the_run_goes_on(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(turn_limit=0.2) as engine:
            handle = await waiting(engine)
            with pytest.raises(TurnLimitError, match="in spins"):
                await handle.query("spins")
            assert await handle.query("progress") == Progress(["0", "1"])
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()

    run(main)


@pytest.mark.parametrize("what", ["async", "lambda", "no function", "async validator"])
def test_what_cant_be_a_handler_is_refused(what: str, memory: Place) -> None:
    async def is_async() -> None: ...
    def is_plain() -> None: ...

    @workflow(name=f"queries.registers {what}")
    async def registers() -> None:
        match what:
            case "async":
                perdure.on_query(is_async)
            case "lambda":
                perdure.on_query(lambda: 1)
            case "no function":
                perdure.on_update("text")  # type: ignore[call-overload]
            case _:
                perdure.on_update(is_plain, is_async)

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="UsageError"):
                await engine.run(registers())

    run(main)


def test_the_last_handler_of_a_name_counts(memory: Place) -> None:
    @workflow(name="queries.replaces")
    async def replaces() -> None:
        def number() -> int:
            return 1

        perdure.on_query(number)
        await says("x")

        def number() -> int:  # type: ignore[no-redef]
            return 2

        perdure.on_query(number)

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(replaces(), delay=3600)
            assert await handle.query("number") == 1
            handle = await engine.start(replaces())
            await handle.result()
            assert await handle.query("number") == 2

    run(main)


def test_without_an_engine_handlers_are_ignored() -> None:
    @workflow(name="queries.plainly")
    async def plainly() -> str:
        @perdure.on_query
        def state() -> int:
            return 1

        @perdure.on_update
        def change() -> None: ...

        return f"{state()}"

    assert asyncio.run(plainly()) == "1"  # type: ignore[arg-type]


def test_a_step_registers_nothing(memory: Place) -> None:
    @step(name="queries.registers_in_step", retry=perdure.Retry(max_attempts=1))
    async def registers() -> None:
        perdure.on_query(run)

    @workflow(name="queries.has_such_a_step")
    async def has_such_a_step() -> None:
        await registers()

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="inside a step"):
                await engine.run(has_such_a_step())

    run(main)


# -- through the store --------------------------------------------------------------------------------


def without_code(client: Engine) -> None:
    """As in a process that hasn't imported the workflow."""
    assert client._connection is not None
    client._connection.inquiry._code = lambda name: None  # type: ignore[method-assign]


def test_a_client_without_the_code_asks_a_worker(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine, place.engine(worker=False) as client:
            await waiting(engine)
            without_code(client)
            handle = client.get("r")
            assert await handle.query("progress") == {"done": ["0", "1"], "due": "2030-01-02"}
            assert await handle.query("since", date(2030, 1, 1), days=2) == ["2030-01-01", 2]
            with pytest.raises(OutOfSorts, match="today"):
                await handle.query("fails", "today")
            with pytest.raises(UnknownHandlerError, match="It has: acts"):
                await handle.query("nope")
            with pytest.raises(ReadOnlyError):
                await handle.query("acts", "sets an event")
            asked = await asyncio.gather(*(handle.query("progress") for _ in range(20)))
            assert len(asked) == 20
            store: Any = engine._store
            assert not await store.inquiries.waiting([shows.name], now=0.0)

    run(main)


def test_any_worker_answers_for_a_run_that_nobody_drives(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await waiting(engine)
            await handle.cancel()
            await reaches(handle, "cancelled")
        async with place.engine(queues=("elsewhere",)), place.engine(worker=False) as client:
            without_code(client)
            answer = await client.get("r").query("progress")
            assert answer["done"] == ["0", "1", "cancelled"]

    run(main)


def test_a_question_that_nobody_can_answer_says_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await waiting(engine)
        async with place.engine(worker=False) as client:
            without_code(client)
            with pytest.raises(HandlerUnreachableError, match="start a worker that does"):
                await client.get("r").query("progress")
            engine = place.engine()
            await engine.__aenter__()
            await crash(engine)  # it is registered, and answers nothing
            monkeypatch.setattr("perdure.runtime.inquiry.EXPIRY", 0.2)
            with pytest.raises(HandlerUnreachableError, match="wasn't answered within"):
                await client.get("r").query("progress")
            assert await of_kind(client.get("r"), events.RunFailed) == []

    run(main)


def test_an_engine_cant_be_asked_after_its_end(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await waiting(engine)
        with pytest.raises(perdure.errors.EngineClosedError):
            await handle.query("progress")

    run(main)
