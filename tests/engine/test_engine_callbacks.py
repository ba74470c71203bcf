"""Callbacks: what a run waits for is completed, failed, kept alive or forgotten by somebody outside."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import pytest
from engine_kit import (
    Ledger,
    Mortal,
    Place,
    Places,
    Slow,
    bury,
    crash,
    history,
    of_kind,
    reaches,
    recorded,
    run,
    says,
    sets_clock_ahead,
    until,
)

import perdure
from perdure import (
    CallbackCompletedError,
    CallbackError,
    CallbackExpiredError,
    CallbackFailed,
    Engine,
    UnknownCallbackError,
    events,
    step,
    workflow,
)
from perdure.errors import NotSerializableError, PayloadTooLargeError, ReadOnlyError, UsageError
from perdure.runtime.tokens import token_hash, token_of

#: Tokens as they came out, oldest first.
TOKENS: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    TOKENS.clear()


@dataclass
class Approval:
    approved: bool
    by: str


@step(name="callbacks.hand_out")
async def hand_out(token: str) -> None:
    TOKENS.append(token)


@workflow(name="callbacks.asks")
async def asks(timeout: float | None = None, heartbeat: float | None = None) -> str:
    answer = perdure.callback(Approval, timeout=timeout, heartbeat=heartbeat)
    await hand_out(answer.token)
    try:
        approval = await answer
    except (CallbackFailed, TimeoutError) as error:
        return f"{type(error).__name__}: {error}"
    assert answer.done()
    assert type(approval) is Approval
    return f"{approval.by}: {approval.approved}"


async def token(number: int = 1) -> str:
    await until(lambda: len(TOKENS) >= number)
    return TOKENS[number - 1]


async def is_out(engine: Engine, id: str) -> None:
    """The run has left memory."""
    worker = engine._worker
    assert worker is not None
    await until(lambda: not any(driver.id == id for driver in worker.drivers.values()))


# -- from outside -------------------------------------------------------------------------------------


def test_a_value_comes_as_its_type(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks())
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"
            handle = await engine.start(asks())
            await engine.callbacks.complete(await token(2), {"approved": False, "by": "bob"})
            assert await handle.result() == "bob: False"
            (opened,) = await of_kind(handle, events.CallbackOpened)
            (ended,) = await of_kind(handle, events.CallbackEnded)
            assert (opened.op, ended.callback) == ("callback:1", "callback:1")

    run(main)


def test_a_callback_can_be_failed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks())
            await engine.callbacks.fail(await token(), "the approver left")
            assert await handle.result() == "CallbackFailed: the approver left"

    run(main)


def test_a_value_of_another_type_fails_and_blocks_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(asks())
            await engine.callbacks.complete(await token(), {"approved": "perhaps"})
            assert "isn't what the code expects" in await handle.result()
            assert "approved" in await handle.result()

    run(main)


def test_another_process_can_complete_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine, place.engine(worker=False) as client:
            handle = await engine.start(asks())
            await client.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"

    run(main)


def test_it_can_be_completed_while_the_run_is_out_of_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(asks(timeout=3600), id="a")
            await token()
            await is_out(engine, "a")
            (wait,) = (await handle.info()).waiting_for
            assert (wait.kind, wait.id) == ("callback", "callback:1")
            wake_at = (await handle.info()).wake_at
            assert wake_at is not None
            assert wait.until == pytest.approx(wake_at.timestamp())
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"
            assert len(TOKENS) == 1

    run(main)


def test_it_can_be_completed_while_no_worker_is_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.start(asks(timeout=3600), id="a")
            await token()
        async with place.engine(worker=False) as client:
            await client.callbacks.complete(await token(), Approval(True, "ann"))
        async with place.engine() as engine:
            assert await engine.get("a").result() == "ann: True"

    run(main)


def test_whoever_comes_too_late_is_told(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            callbacks = engine.callbacks
            handle = await engine.start(asks(), id="a")
            await callbacks.complete(await token(), Approval(True, "ann"))
            for act in (
                callbacks.complete(TOKENS[0]),
                callbacks.fail(TOKENS[0], "x"),
                callbacks.heartbeat(TOKENS[0]),
            ):
                with pytest.raises(
                    CallbackCompletedError, match="callback:1 of run 'a' was completed"
                ) as told:
                    await act
                assert told.value.run_id == "a"
            assert await handle.result() == "ann: True"
            with pytest.raises(CallbackCompletedError):
                await callbacks.complete(TOKENS[0])
            with pytest.raises(UnknownCallbackError, match="no callback in this database"):
                await callbacks.complete(TOKENS[0][:-1])
            handle = await engine.start(asks(), id="b")
            await token(2)
            await handle.terminate()
            with pytest.raises(CallbackExpiredError, match=r"run has ended \(terminated\)"):
                await callbacks.heartbeat(TOKENS[1])
            assert issubclass(CallbackExpiredError, CallbackError)
            assert TOKENS[0] not in str(told.value)

    run(main)


def test_what_cant_be_recorded_completes_nothing(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine(max_payload=1000) as engine:
            handle = await engine.start(asks())
            for value, error in (
                (object(), NotSerializableError),
                (float("nan"), NotSerializableError),
                ("x" * 1001, PayloadTooLargeError),
            ):
                with pytest.raises(error, match="value for a callback"):
                    await engine.callbacks.complete(await token(), value)
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"

    run(main)


# -- time ---------------------------------------------------------------------------------------------


def test_its_time_may_be_over(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(timeout=0.05))
            assert (
                await handle.result()
                == "TimeoutError: callback:1 wasn't completed within its timeout of 0.05 s"
            )
            with pytest.raises(CallbackExpiredError, match="TimeoutError"):
                await engine.callbacks.complete(await token(), Approval(True, "ann"))
            handle = await engine.start(asks(timeout=60, heartbeat=0.05))
            assert "nothing was heard of callback:1 for 0.05 s" in await handle.result()

    run(main)


def test_its_time_may_be_over_while_the_run_is_out_of_memory(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.runtime.residency.EVICT_MARGIN", 0.0)

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(asks(timeout=1.3), id="a")
            await token()
            await is_out(engine, "a")
            assert "TimeoutError" in await handle.result()
            (opened,) = await of_kind(handle, events.CallbackOpened)
            (ended,) = await of_kind(handle, events.CallbackEnded)
            assert ended.at >= opened.at + 1.3
            assert len(TOKENS) == 1

    run(main)


def test_its_time_goes_on_while_no_worker_is_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.start(asks(timeout=1000), id="a")
            await token()
        later = place.engine()
        sets_clock_ahead(later, 2000)
        async with later as engine:
            assert "within its timeout of 1000 s" in await engine.get("a").result()

    run(main)


def test_a_completion_after_the_deadline_is_a_time_out_for_both_sides(place: Place) -> None:
    """Also when nobody has noted the time-out before."""

    async def main() -> None:
        async with place.engine() as engine:
            await engine.start(asks(timeout=1000), id="a")
            await token()
        late = place.engine(worker=False)
        sets_clock_ahead(late, 2000)
        async with late as client:
            with pytest.raises(CallbackExpiredError):
                await client.callbacks.complete(await token(), Approval(True, "ann"))
        worker = place.engine()
        sets_clock_ahead(worker, 2000)
        async with worker as engine:
            assert "within its timeout of 1000 s" in await engine.get("a").result()

    run(main)


def test_heartbeats_keep_it_open(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(timeout=60, heartbeat=1.5))
            await token()
            began = time.monotonic()
            while time.monotonic() < began + 2.0:
                await engine.callbacks.heartbeat(await token())
                await asyncio.sleep(0.02)
            assert not await of_kind(handle, events.CallbackEnded)
            count = len(await history(handle))
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"
            assert count <= 4  # no event for a heartbeat

    run(main)


def test_heartbeats_count_while_nobody_drives_the_run(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(heartbeat=1000), id="a")
            await token()
        client = place.engine(worker=False)
        sets_clock_ahead(client, 900)
        async with client:
            await client.callbacks.heartbeat(await token())
        later = place.engine()
        sets_clock_ahead(later, 1800)
        async with later as engine:
            handle = engine.get("a")
            await reaches(handle, "waiting")
            assert not await of_kind(handle, events.CallbackEnded)
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await handle.result() == "ann: True"

    run(main)


@pytest.mark.parametrize("first", ["complete", "time out"])
def test_completing_races_the_time_out(place: Place, first: str) -> None:
    """Whichever is committed first is what happened, on both sides."""

    async def main() -> None:
        async with place.engine() as engine:
            outcomes: set[str] = set()
            for number in range(1, 11):
                handle = await engine.start(asks(timeout=0.03))
                value = await token(number)
                (opened,) = await of_kind(handle, events.CallbackOpened)
                pause = opened.at + 0.03 - time.time() - (0.002 if first == "complete" else 0.0)
                await asyncio.sleep(max(0.0, pause))
                try:
                    await engine.callbacks.complete(value, Approval(True, "ann"))
                except CallbackExpiredError:
                    assert "TimeoutError" in await handle.result()
                    outcomes.add("late")
                else:
                    assert await handle.result() == "ann: True"
                    outcomes.add("in time")
                assert len(await of_kind(handle, events.CallbackEnded)) == 1
            assert outcomes <= {"late", "in time"}

    run(main)


# -- inside the run -----------------------------------------------------------------------------------


@workflow(name="callbacks.many_waits")
async def many_waits() -> list[str]:
    one, two = perdure.callback(str), perdure.callback(str)
    seen: list[str] = []
    try:
        await asyncio.wait_for(one, 0.01)
    except TimeoutError:
        seen.append("given up")  # and it is still open
    waiter = asyncio.ensure_future(one)
    await asyncio.sleep(0)
    waiter.cancel()
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(one), asyncio.create_task(says("step"))]
    await hand_out(one.token)
    await hand_out(two.token)
    done, _ = await asyncio.wait([*tasks, asyncio.ensure_future(two)], return_when=asyncio.FIRST_COMPLETED)
    seen.append(str(len(done)))
    seen += await asyncio.gather(*tasks, two)
    return [*seen, await one, repr(two)]


def test_waits_for_it_are_waits_as_any_other(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(many_waits(), id="a")
            await engine.callbacks.complete(await token(2), "2")
            await engine.callbacks.complete(await token(1), "1")
            assert await handle.result() == [
                "given up",
                "1",
                "1",
                "1",
                "step",
                "2",
                "1",
                "<callback 'callback:2' of run 'a'>",
            ]

    run(main)


def test_a_run_may_end_without_having_waited(place: Place) -> None:
    @workflow(name="callbacks.unheard")
    async def unheard() -> str:
        first = perdure.callback(timeout=60)
        await hand_out(first.token)
        return perdure.callback().token  # never opened: nothing comes after it

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(unheard())
            late = await handle.result()
            with pytest.raises(CallbackExpiredError, match=r"run has ended \(completed\)"):
                await engine.callbacks.complete(await token())
            with pytest.raises(UnknownCallbackError):
                await engine.callbacks.complete(late)
            assert len(await of_kind(handle, events.CallbackOpened)) == 1

    run(main)


def test_a_wait_can_be_cancelled(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(timeout=60))
            await token()
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            with pytest.raises(CallbackExpiredError, match=r"\(cancelled\)"):
                await engine.callbacks.complete(await token())

    run(main)


def test_ended_callbacks_leave_no_alarm_behind(memory: Place) -> None:
    @workflow(name="callbacks.one_after_the_other")
    async def one_after_the_other() -> None:
        for _ in range(20):
            one = perdure.callback(timeout=3600, heartbeat=1800)
            await hand_out(one.token)
            await one
        await perdure.callback()

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one_after_the_other())
            for number in range(1, 21):
                await engine.callbacks.complete(await token(number))
            await until(lambda: len(engine._worker.drivers) == 1)  # type: ignore[union-attr]

            async def is_last() -> bool:
                return len(await of_kind(handle, events.CallbackOpened)) == 21

            await until(is_last)
            (driver,) = engine._worker.drivers.values()  # type: ignore[union-attr]
            await until(lambda: not driver.busy())
            assert driver.work.next_due() is None

    run(main)


def test_limits_out_of_range_are_told(memory: Place) -> None:
    @workflow(name="callbacks.wrong")
    async def wrong() -> int:
        told = 0
        for limits in ({"timeout": 0}, {"heartbeat": 0}, {"timeout": float("inf")}):
            with pytest.raises(UsageError, match="give a number of seconds > 0"):
                perdure.callback(**limits)
            told += 1
        return told

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(wrong()) == 3

    run(main)


def test_outside_of_a_run_there_is_nobody_to_wait() -> None:
    with pytest.raises(UsageError, match="only in workflow code"):
        perdure.callback()


# -- tokens -------------------------------------------------------------------------------------------


def test_a_token_is_the_same_on_replay_and_stored_nowhere(file: Place) -> None:
    @workflow(name="callbacks.tells_nobody")
    async def tells_nobody() -> str:
        mine = perdure.callback(str)
        TOKENS.append(mine.token)
        await says("x")
        return await mine

    async def main() -> None:
        async with file.engine(evict_after=0.01) as engine:
            handle = await engine.start(tells_nobody(), id="a")
            await until(lambda: TOKENS)
            await is_out(engine, "a")
            assert file.path is not None
            stored = b"".join(path.read_bytes() for path in file.path.parent.glob("runs.db*"))
            assert TOKENS[0].encode() not in stored
            assert token_hash(TOKENS[0]) in stored
            await engine.callbacks.complete(TOKENS[0], "done")
            assert await handle.result() == "done"
            assert len(set(TOKENS)) == 1 < len(TOKENS)

    run(main)


def test_tokens_have_256_bits_of_their_own() -> None:
    seen = {
        token_of(seed, run_id, op_id)
        for seed in (bytes(32), bytes(31) + b"\1", bytes(16))
        for run_id, op_id in (
            ("a", "callback:1"),
            ("a", "callback:2"),
            ("b", "callback:1"),
            ("ac", "allback:1"),
        )
    }
    assert len(seen) == 12
    assert {len(one.removeprefix("cb_")) for one in seen} == {43}
    assert all(one.replace("-", "").replace("_", "").isalnum() for one in seen)


def test_random_numbers_dont_give_the_seed_of_tokens_away(memory: Place) -> None:
    import random

    @workflow(name="callbacks.draws")
    async def draws() -> float:
        return perdure.random()

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(draws())
            (started,) = await of_kind(handle, events.RunStarted)
            assert len(started.seed) == 32
            assert await handle.result() != random.Random(started.seed).random()

    run(main)


# -- durable before it is out -------------------------------------------------------------------------


@step(name="callbacks.checks")
async def checks(label: str, token: str) -> str:
    """Its body begins only when the token works."""
    TOKENS.append(f"{label} {token_hash(token) in PLACES[-1].shared.callbacks}")
    return label


PLACES: list[Place] = []


@workflow(name="callbacks.inner")
async def inner(label: str, token: str) -> str:
    return await checks(label, token)


@workflow(name="callbacks.at_once")
async def at_once() -> list[str]:
    early = asyncio.create_task(says("early"))
    await asyncio.sleep(0)
    one, two = perdure.callback(), perdure.callback()
    started = await perdure.start(inner("started", two.token))
    three = perdure.callback()
    return [
        *await asyncio.gather(
            checks("one", one.token), inner("two", two.token), checks("three", three.token), early
        ),
        await started.result(),
    ]


def test_nothing_begins_before_the_callbacks_are_durable(memory: Place) -> None:
    PLACES.append(memory)

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(at_once()) == ["one", "two", "three", "early", "started"]
        assert sorted(TOKENS) == ["one True", "started True", "three True", "two True"]

    run(main)


@pytest.mark.parametrize("commits", [False, True])
def test_a_crash_before_a_callback_is_known_leaves_no_trace_of_its_token(
    make_place: Places, commits: bool
) -> None:
    async def main() -> None:
        place = make_place()
        engine = place.engine(lambda inner: Mortal(inner, 1, commits, Ledger()))
        await engine.__aenter__()
        store: Any = engine._store
        await engine.start(asks(timeout=600), id="a")
        await store.dead.wait()
        assert TOKENS == []
        await crash(engine)
        await bury(place)
        async with place.engine() as engine:
            await engine.callbacks.complete(await token(), Approval(True, "ann"))
            assert await engine.get("a").result() == "ann: True"

    run(main)


GATE: list[asyncio.Event] = []


@step(name="callbacks.gated")
async def gated() -> str:
    await GATE[-1].wait()
    return "open"


@workflow(name="callbacks.changes_its_mind")
async def changes_its_mind() -> str:
    first = asyncio.create_task(gated())
    await says("a")  # acknowledged only when the gate's outcome waits for the next append
    mine = perdure.callback()
    telling = asyncio.create_task(hand_out(mine.token))
    await first
    telling.cancel()
    return "nobody knows"


def test_what_is_given_up_before_the_callback_is_durable_never_begins(memory: Place) -> None:
    async def main() -> None:
        GATE.append(asyncio.Event())
        engine = memory.engine(lambda inner: Slow(inner, 1))
        async with engine:
            store: Any = engine._store
            handle = await engine.start(changes_its_mind())
            await store.reached.wait()
            GATE[-1].set()
            worker = engine._worker
            assert worker is not None
            (driver,) = worker.drivers.values()
            await until(lambda: driver._buffer)
            store.go.set()
            assert await handle.result() == "nobody knows"
            assert TOKENS == []
            assert await recorded(handle) == ["engine_kit.says#1", "callbacks.gated#1"]

    run(main)


# -- crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_changes_nothing(make_place: Places, commits: bool) -> None:
    """Whoever has a token completes it; a run that was taken over waits for the same one."""

    async def drives(place: Place, wrap: Any = None) -> tuple[Any, bool]:
        engine = place.engine(wrap)
        await engine.__aenter__()
        dead = asyncio.ensure_future(engine._store.dead.wait()) if wrap else asyncio.Future()  # type: ignore[attr-defined]

        async def completes() -> Any:
            handle = await engine.start(asks(timeout=600, heartbeat=300), id="a")
            while not (await handle.status()).final:
                for value in set(TOKENS):
                    try:
                        await engine.callbacks.heartbeat(value)
                        await engine.callbacks.complete(value, Approval(True, "ann"))
                    except (CallbackCompletedError, CallbackExpiredError):
                        pass  # in the former life
                await asyncio.sleep(0.001)
            return await handle.result()

        driving = asyncio.ensure_future(completes())
        await asyncio.wait([driving, dead], return_when=asyncio.FIRST_COMPLETED)
        died = dead.done()
        dead.cancel()
        if not died:
            result = await driving
            await engine.close()
            return result, False
        driving.cancel()
        await asyncio.wait([driving])
        await crash(engine)
        await bury(place)
        return None, True

    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            TOKENS.clear()
            place = make_place()
            ledger = Ledger()
            result, died = await drives(
                place, lambda inner, n=number, book=ledger: Mortal(inner, n, commits, book)
            )
            if died:
                handed_out = set(TOKENS)
                result, _ = await drives(place)
                async with place.engine() as engine:
                    handle = engine.get("a")
                    assert len(await of_kind(handle, events.CallbackOpened)) == 1
                    assert len(await of_kind(handle, events.CallbackEnded)) == 1
                    (input,) = [event.input for event in await of_kind(handle, events.StepCompleted)]
                    assert all(value.encode() in input for value in handed_out)
            assert result == "ann: True", f"died at append {number}"
        assert number > 3

    run(main)


# -- together with other features ---------------------------------------------------------------------


@workflow(name="callbacks.goes_on")
async def goes_on(generation: int) -> str:
    mine = perdure.callback(str)
    await hand_out(mine.token)
    if generation == 1:
        perdure.continue_as(goes_on(2))
    return await mine


def test_a_token_is_of_one_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(goes_on(1), id="a")
            old, new = await token(1), await token(2)
            assert old != new
            with pytest.raises(CallbackExpiredError, match=r"\(continued\)"):
                await engine.callbacks.complete(old, "old")
            await engine.callbacks.complete(new, "new")
            assert await handle.result() == "new"

    run(main)


def test_a_query_cant_open_one(memory: Place) -> None:
    @workflow(name="callbacks.asked")
    async def asked() -> str:
        def makes_one() -> str:
            return perdure.callback().token

        perdure.on_query(makes_one)
        mine = perdure.callback(str)
        await hand_out(mine.token)
        return await mine

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(asked())
            value = await token()
            with pytest.raises(ReadOnlyError):
                await handle.query("makes_one")
            await engine.callbacks.complete(value, "done")
            assert await handle.result() == "done"
            assert len(await of_kind(handle, events.CallbackOpened)) == 1

    run(main)


def test_a_paused_run_keeps_what_comes(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(timeout=3600))
            value = await token()
            await handle.pause()
            await reaches(handle, "paused")
            await engine.callbacks.complete(value, Approval(True, "ann"))
            assert await handle.status() == "paused"
            await handle.resume()
            assert await handle.result() == "ann: True"

    run(main)
