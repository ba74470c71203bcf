"""Updates: calls that change a run, each once, with an answer for its caller whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from engine_kit import Place, bury, crash, history, of_kind, reaches, redefine, run, says, until

import perdure
from perdure import (
    Engine,
    Handle,
    ReadOnlyError,
    RunConflictError,
    RunEndedError,
    UnknownHandlerError,
    UpdateRejected,
    events,
    step,
    workflow,
)

CHECKS: list[str] = []
BODIES: list[str] = []
GATE: list[asyncio.Event] = []


@dataclass
class Line:
    item: str
    count: int


class SoldOut(Exception):
    """What a handler raises."""


@step
async def reserves(item: str) -> str:
    BODIES.append(item)
    if item == "slow":
        await GATE[-1].wait()
    return item.upper()


@workflow
async def cart(closes_at_once: bool = False) -> list[Line]:
    """Takes updates until it is closed."""
    lines: list[Line] = []
    closed = asyncio.Event()
    flag = asyncio.Event()

    @perdure.on_query
    def content() -> list[Line]:
        return lines

    def check(item: str, count: int = 1) -> None:
        CHECKS.append(item)
        match item:
            case "forbidden":
                raise ValueError("not for sale")
            case "mute":
                raise KeyError
            case "acts":
                flag.set()
            case "exits":
                raise SystemExit("leaving")
            case "is there":
                if any(line.item == "IS THERE" for line in lines):
                    raise ValueError("it is there already")

    @perdure.on_update(validator=check)
    async def add(item: str, count: int = 1) -> Line:
        if item == "is there":
            lines.append(Line("IS THERE", count))  # in its first turn
        if item == "sold out":
            raise SoldOut(item)
        if item == "local":

            class Local(Exception):
                pass

            raise Local(item)
        if item == "continues":
            perdure.continue_as(cart())
        if item == "sleeps":
            await asyncio.sleep(0.05)
        if item == "forever":
            await asyncio.sleep(3600)
        if item == "cancels itself":
            raise asyncio.CancelledError
        line = Line(await reserves(item), count)
        lines.append(line)
        return line

    @perdure.on_update
    def close() -> int:
        closed.set()
        return len(lines)

    @perdure.on_update
    def is_open(answer: Any) -> int:
        return answer  # type: ignore[no-any-return]

    waiter = asyncio.ensure_future(flag.wait())
    if not closes_at_once:
        await closed.wait()
    waiter.cancel()
    return lines


async def opened(engine: Engine, **options: Any) -> Handle[list[Line]]:
    return await engine.start(cart(), id="c", **options)


async def accepted(handle: Handle[Any]) -> list[str]:
    return [event.name for event in await of_kind(handle, events.UpdateAccepted)]


# -- answers ------------------------------------------------------------------------------------------


def test_an_update_changes_the_run_and_has_a_typed_answer(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk") == Line("MILK", 1)
            assert await handle.update("add", item="eggs", count=6) == Line("EGGS", 6)
            assert await handle.query("content") == [Line("MILK", 1), Line("EGGS", 6)]
            assert await handle.update("close") == 2
            assert await handle.result() == [Line("MILK", 1), Line("EGGS", 6)]
            ids = [event.step for event in await of_kind(handle, events.StepCompleted)]
            assert [id.partition("/")[0] for id in ids] == ["u1", "u2"]

    run(main)


def test_what_the_handler_raises_is_the_callers_and_fails_nothing_else(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            with pytest.raises(SoldOut, match="sold out") as caught:
                await handle.update("add", "sold out", key="k")
            assert "in add" in caught.value.__notes__[0]
            with pytest.raises(SoldOut, match="sold out"):
                await handle.update("add", "sold out", key="k")
            with pytest.raises(perdure.HandlerFailed, match="Local: local"):
                await handle.update("add", "local")
            with pytest.raises(perdure.HandlerFailed, match="CancelledError"):
                await handle.update("add", "cancels itself")
            with pytest.raises(perdure.errors.UsageError, match="update handler called continue_as"):
                await handle.update("add", "continues")
            with pytest.raises(perdure.NotSerializableError, match="result of update is_open"):
                await handle.update("is_open", "text")
            assert await handle.update("add", "milk") == Line("MILK", 1)
            assert len(await of_kind(handle, events.UpdateCompleted)) == 6

    run(main)


def test_a_rejected_update_leaves_no_trace(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk") == Line("MILK", 1)
            before = await history(handle)
            for _ in range(2):
                with pytest.raises(UpdateRejected, match=r"^not for sale$"):
                    await handle.update("add", "forbidden", key="k")
            with pytest.raises(UpdateRejected, match=r"^KeyError$"):
                await handle.update("add", "mute")
            with pytest.raises(UpdateRejected, match=r"left with SystemExit: leaving$"):
                await handle.update("add", "exits")
            with pytest.raises(
                UpdateRejected, match=r"add\(item: .*str.*\) .* can't be called so: Expected `int`"
            ):
                await handle.update("add", "eggs", count="many")
            with pytest.raises(UpdateRejected, match="unexpected keyword"):
                await handle.update("add", "eggs", number=1)
            with pytest.raises(
                UnknownHandlerError, match=r"no update handler 'nope'\. It has: add, close, is_open"
            ):
                await handle.update("nope")
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").update("add", "milk")
            assert await history(handle) == before
            assert await handle.update("add", "eggs") == Line("EGGS", 1)

    run(main)


def test_a_validator_that_acts_rejects_and_changes_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk") == Line("MILK", 1)
            with pytest.raises(UpdateRejected, match="woke up something") as caught:
                await handle.update("add", "acts")
            assert isinstance(caught.value, ReadOnlyError)
            assert await accepted(handle) == ["add"]
            assert await handle.update("add", "eggs") == Line("EGGS", 1)
            assert await handle.update("close") == 2
            assert await handle.result() == [Line("MILK", 1), Line("EGGS", 1)]

    run(main)


def test_a_rejected_key_may_be_tried_again(place: Place) -> None:
    @workflow(name="updates.opens_later")
    async def opens_later() -> None:
        is_open = asyncio.Event()

        def check() -> None:
            if not is_open.is_set():
                raise ValueError("closed")

        @perdure.on_update(validator=check)
        def enter() -> str:
            return "welcome"

        perdure.on_update(is_open.set)
        await asyncio.sleep(3600)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(opens_later(), id="o")
            with pytest.raises(UpdateRejected, match="closed"):
                await handle.update("enter", key="me")
            await handle.update("set")
            assert await handle.update("enter", key="me") == "welcome"
            assert await accepted(handle) == ["set", "enter"]

    run(main)


# -- once ---------------------------------------------------------------------------------------------


def test_a_key_makes_an_update_happen_once(place: Place) -> None:
    async def main() -> None:
        BODIES.clear()
        async with place.engine() as engine, place.engine(worker=False) as other:
            handle = await opened(engine)
            together = [handle.update("add", "milk", key="k") for _ in range(5)]
            together += [other.get("c").update("add", "milk", key="k") for _ in range(5)]
            assert await asyncio.gather(*together) == [Line("MILK", 1)] * 10
            assert await handle.update("close") == 1
            await handle.result()
            assert await other.get("c").update("add", "milk", key="k") == Line("MILK", 1)
        async with place.engine() as engine:
            assert await engine.get("c").update("add", "milk", key="k") == Line("MILK", 1)
            assert await accepted(engine.get("c")) == ["add", "close"]
        assert BODIES == ["milk"]

    run(main)


def test_a_key_belongs_to_one_call(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk", key="k") == Line("MILK", 1)
            for name, args in (("add", ["eggs"]), ("add", ["milk", 2]), ("close", []), ("nope", [])):
                with pytest.raises(RunConflictError, match="the key 'k'"):
                    await handle.update(name, *args, key="k")
            assert await accepted(handle) == ["add"]

    run(main)


@pytest.mark.parametrize("key", ["", "line\nbreak", "x" * 1001, 7])
def test_what_cant_be_a_key_is_refused(key: Any, memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await opened(engine)
            with pytest.raises(perdure.errors.UsageError, match="can't be an update's key"):
                await handle.update("add", "milk", key=key)

    run(main)


def test_validators_arent_called_on_replay(place: Place) -> None:
    async def main() -> None:
        CHECKS.clear()
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk") == Line("MILK", 1)
        async with place.engine() as engine:
            handle = engine.get("c")
            assert await handle.update("add", "eggs") == Line("EGGS", 1)
            assert await handle.query("content") == [Line("MILK", 1), Line("EGGS", 1)]
        assert CHECKS == ["milk", "eggs"]

    run(main)


# -- when ---------------------------------------------------------------------------------------------


def test_an_update_waits_for_the_first_activation(place: Place) -> None:
    """Of a run that no worker has begun yet, or whose start is delayed."""

    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(cart(), id="c", delay=0.05)
            waiting = asyncio.ensure_future(handle.update("add", "milk"))
            await until(lambda: waits_for_mail(client, "c"))
            assert await handle.status() == "queued"
            async with place.engine():
                assert await waiting == Line("MILK", 1)
                assert await handle.update("close") == 1
                await handle.result()
            row = await handle.info()
            assert row.started_at is not None
            assert (row.started_at - row.created_at).total_seconds() >= 0.05

    run(main)


async def waits_for_mail(engine: Engine, id: str) -> bool:
    (row,) = await engine._store.get([id])
    return row is not None and row.mail > 0


def test_updates_run_beside_each_other_in_the_order_of_their_calls(place: Place) -> None:
    async def main() -> None:
        GATE.append(asyncio.Event())
        BODIES.clear()
        async with place.engine() as engine:
            handle = await opened(engine)
            slow = asyncio.ensure_future(handle.update("add", "slow"))
            await until(lambda: BODIES)
            assert await handle.update("add", "quick") == Line("QUICK", 1)
            assert not slow.done()
            GATE[-1].set()
            assert await slow == Line("SLOW", 1)
            assert await handle.query("content") == [Line("QUICK", 1), Line("SLOW", 1)]

    run(main)


def test_a_validator_sees_what_the_update_before_has_done_in_its_first_turn(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            calls = [handle.update("add", "is there") for _ in range(5)]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [end for end in ends if end == Line("IS THERE", 1)] == [Line("IS THERE", 1)]
            assert len([end for end in ends if isinstance(end, UpdateRejected)]) == 4

    run(main)


def test_mail_behind_an_update_comes_after_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await opened(client)
            update = asyncio.ensure_future(handle.update("is_open", 7))
            await until(lambda: waits_for_mail(client, "c"))
            await handle.cancel()
            late = asyncio.ensure_future(handle.update("is_open", 8))
            async with place.engine():
                assert await update == 7
                with pytest.raises(RunEndedError):
                    await late
                kinds = [type(event).__name__ for event in await history(handle)]
                assert kinds.index("UpdateAccepted") < kinds.index("CancelRequested")

    run(main)


def test_a_wait_may_end_before_the_update_does(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            with pytest.raises(TimeoutError, match="it goes on"):
                await handle.update("add", "sleeps", key="k", timeout=0.01)
            assert await handle.update("add", "sleeps", key="k", timeout=60) == Line("SLEEPS", 1)

    run(main)


def test_an_update_that_waits_leaves_memory_and_comes_back(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.02) as engine:
            handle = await opened(engine)
            waiting = asyncio.ensure_future(handle.update("add", "forever", key="k"))
            worker = engine._worker
            assert worker is not None

            async def left() -> bool:
                return not worker.drivers and bool(await accepted(handle))

            await until(left)
            wait = (await handle.info()).waiting_for
            assert ("update", "update[k]", "add") in [(item.kind, item.id, item.detail) for item in wait]
            assert await handle.update("add", "milk") == Line("MILK", 1)
            assert not waiting.done()
            await until(left)
            await handle.cancel()
            with pytest.raises(RunEndedError, match="had begun"):
                await waiting

    run(main)


def test_a_run_that_waits_for_its_own_state_says_what_could_change_it(place: Place) -> None:
    @workflow(name="updates.only_queries")
    async def only_queries() -> None:
        def state() -> int:
            return 1

        perdure.on_query(state)
        await asyncio.Event().wait()

    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            await reaches(handle, "waiting")
            assert "only an update (" in str((await handle.info()).reason)
            stuck = await engine.start(only_queries())
            await reaches(stuck, "waiting")
            assert "only a cancellation" in str((await stuck.info()).reason).lower()

    run(main)


# -- the run's end ------------------------------------------------------------------------------------


def test_an_ended_run_takes_no_updates(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(cart(closes_at_once=True), id="c")
            await handle.result()
            with pytest.raises(RunEndedError, match="takes no updates any more") as caught:
                await handle.update("add", "milk")
            assert isinstance(caught.value, RunConflictError)
            with pytest.raises(RunEndedError):
                await handle.update("nope")

    run(main)


@pytest.mark.parametrize("how", ["returns", "cancelled", "terminated"])
@pytest.mark.parametrize("client", ["here", "elsewhere"])
def test_a_run_that_ends_leaves_no_caller_waiting(client: str, how: str, place: Place) -> None:
    async def main() -> None:
        GATE.append(asyncio.Event())
        async with place.engine() as engine, place.engine(worker=False) as other:
            handle = await opened(engine)
            caller = (engine if client == "here" else other).get("c")
            waiting = [asyncio.ensure_future(caller.update("add", item)) for item in ("slow", "forever")]
            await until(lambda: both_accepted(handle))
            match how:
                case "returns":
                    assert await handle.update("close") == 0
                case "cancelled":
                    await handle.cancel()
                case "terminated":
                    await handle.terminate()
            for update in waiting:
                with pytest.raises(RunEndedError, match="had begun and wasn't done"):
                    await update
            assert await of_kind(handle, events.UpdateCompleted) == [] or how == "returns"

    async def both_accepted(handle: Handle[Any]) -> bool:
        return len(await accepted(handle)) == 2

    run(main)


def test_a_handler_may_finish_when_it_is_cancelled_with_its_run(place: Place) -> None:
    """What it returns then is its caller's."""

    @workflow(name="updates.finishes")
    async def finishes() -> str:
        begun = asyncio.Event()

        @perdure.on_update
        async def work() -> str:
            begun.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return await says("tidied up")
            return "never"

        await begun.wait()
        return "done"

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(finishes(), id="f")
            assert await handle.update("work", key="k") == "tidied up"
            assert await handle.result() == "done"
            assert await handle.update("work", key="k") == "tidied up"

    run(main)


def test_an_engine_that_closes_tells_its_callers(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await opened(engine)
            waiting = asyncio.ensure_future(handle.update("add", "forever"))
            await until(lambda: begun(handle))
        with pytest.raises(perdure.errors.EngineClosedError):
            await waiting

    async def begun(handle: Handle[Any]) -> bool:
        return bool(await accepted(handle))

    run(main)


# -- crashes and other code ---------------------------------------------------------------------------


def test_an_accepted_update_answers_its_caller_after_a_crash(place: Place) -> None:
    async def main() -> None:
        GATE.append(asyncio.Event())
        BODIES.clear()
        async with place.engine(worker=False) as client:
            first = place.engine()
            await first.__aenter__()
            handle = await opened(client)
            waiting = asyncio.ensure_future(handle.update("add", "slow"))
            await until(lambda: BODIES)
            await crash(first)
            await bury(place)
            GATE.append(asyncio.Event())
            GATE[-1].set()
            async with place.engine():
                assert await waiting == Line("SLOW", 1)
                assert await accepted(handle) == ["add"]

    run(main)


def test_code_without_the_handler_blocks_a_run_that_has_accepted(memory: Place) -> None:
    async def other(closes_at_once: bool = False) -> None:
        await asyncio.Event().wait()

    async def narrower(closes_at_once: bool = False) -> None:
        async def add(item: int) -> None: ...

        perdure.on_update(add)
        await asyncio.Event().wait()

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await opened(engine)
            await handle.update("add", "milk")
        name = cart.name
        try:
            for function, why in (
                (other, "update 'update:"),
                (narrower, "can't be read as what its handler takes"),
            ):
                redefine(name, function)
                async with memory.engine() as engine:
                    await engine.get("c").cancel()
                    await reaches(engine.get("c"), "blocked")
                    assert why in str((await engine.get("c").info()).reason)
        finally:
            redefine(name, cart.function)
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunCancelled):
                await engine.get("c").result()

    run(main)


def test_an_answer_that_changes_on_replay_is_a_divergence(memory: Place) -> None:
    versions = iter(["one", "two", "one"])

    @workflow(name="updates.versions")
    async def answers() -> None:
        version = next(versions)

        @perdure.on_update
        def tell(fails: bool) -> str:
            if fails:
                raise ValueError(f"{version}, which may differ")
            return version

        await asyncio.Event().wait()

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(answers(), id="v")
            with pytest.raises(ValueError, match="one"):
                await handle.update("tell", True)
            assert await handle.update("tell", False) == "one"
        async with memory.engine() as engine:
            await engine.get("v").cancel()
            await reaches(engine.get("v"), "blocked")
            assert "UpdateCompleted" in str((await engine.get("v").info()).reason)
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunCancelled):
                await engine.get("v").result()

    run(main)


def test_updates_of_many_runs_at_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handles = await engine.start_many([cart() for _ in range(20)])
            calls = [handle.update("add", f"{n}") for handle in handles for n in range(10)]
            assert len(await asyncio.gather(*calls)) == 200
            assert await asyncio.gather(*(handle.update("close") for handle in handles)) == [10] * 20

    run(main)


# -- generations and pauses ---------------------------------------------------------------------------


@workflow
async def chain(generation: int) -> int:
    """Two generations; the first goes on as the second when it is told to."""
    go_on = asyncio.Event()

    @perdure.on_update
    async def where() -> int:
        return generation

    @perdure.on_update
    async def lasts() -> int:
        await asyncio.sleep(3600)
        return generation

    @perdure.on_update
    def advance() -> None:
        go_on.set()

    await go_on.wait()
    if generation == 1:
        await asyncio.sleep(0)
        perdure.continue_as(chain(2))
    return generation


def test_updates_find_the_next_generation(place: Place) -> None:
    """What was answered stays answered; what was under way ended with the old one; what waits goes over."""

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(chain(1), id="g")
            assert await handle.update("where", key="w") == 1
            lasting = asyncio.ensure_future(handle.update("lasts", key="l"))

            async def begun() -> bool:
                return "lasts" in await accepted(handle)

            await until(begun)
            ends = await asyncio.gather(
                handle.update("advance"), *(handle.update("where", key=f"w{n}") for n in range(5))
            )
            assert set(ends[1:]) <= {1, 2}
            with pytest.raises(RunEndedError, match="had begun"):
                await lasting
            assert await handle.update("where") == 2
            assert await handle.update("where", key="w") == 1
            await handle.update("advance")
            assert await handle.result() == 2
            assert await handle.update("where", key="w") == 1

    run(main)


def test_an_update_of_a_paused_run_waits_until_it_is_resumed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await opened(engine)
            assert await handle.update("add", "milk") == Line("MILK", 1)
            await handle.pause()
            await reaches(handle, "paused")
            waiting = asyncio.ensure_future(handle.update("add", "eggs"))
            await until(lambda: waits_for_mail(engine, "c"))
            assert await handle.query("content") == [Line("MILK", 1)]
            assert await accepted(handle) == ["add"]
            await handle.resume()
            assert await waiting == Line("EGGS", 1)

    run(main)


def test_a_pause_behind_an_update_and_what_ends_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await opened(client)
            first = asyncio.ensure_future(handle.update("is_open", 1))
            await until(lambda: waits_for_mail(client, "c"))
            await handle.pause()
            second = asyncio.ensure_future(handle.update("is_open", 2))
            await handle.resume()
            async with place.engine():
                assert await first == 1
                assert await second == 2

    run(main)


# -- with what else comes from outside ----------------------------------------------------------------


@workflow
async def counts(goal: int) -> list[str]:
    seen: list[str] = []
    under_way = 0

    @perdure.on_update
    async def bump(label: str) -> int:
        nonlocal under_way
        under_way += 1
        seen.append(label)
        await says(label)
        under_way -= 1
        return len(seen)

    async def receives() -> None:
        while True:
            seen.append(await perdure.receive("note", str))

    notes = asyncio.ensure_future(receives())
    await perdure.until(lambda: len(seen) >= goal and under_way == 0)
    notes.cancel()
    return seen


def test_code_waits_for_what_updates_change(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(counts(3), id="n")
            answers = await asyncio.gather(*(handle.update("bump", f"{n}") for n in range(3)))
            assert max(answers) == 3
            assert await handle.result() == ["0", "1", "2"]

    run(main)


def test_one_callers_messages_and_updates_keep_their_order(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(counts(6), id="n")
            updates = []
            for number in range(3):
                await handle.send("note", f"note {number}")
                updates.append(
                    asyncio.ensure_future(handle.update("bump", f"update {number}", key=f"{number}"))
                )
                await until(lambda: mail_count(client, "n", 2 * number + 2))
            async with place.engine():
                await asyncio.gather(*updates)
                assert await handle.result() == [
                    f"{kind} {number}" for number in range(3) for kind in ("note", "update")
                ]

    async def mail_count(engine: Engine, id: str, least: int) -> bool:
        (row,) = await engine._store.get([id])
        return row is not None and row.mail >= least

    run(main)
