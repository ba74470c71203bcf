"""Runs, steps and the engine don't disturb each other: context, timers, mail, errors, extreme numbers."""

from __future__ import annotations

import asyncio
import contextvars
import datetime as dt
import logging
import zoneinfo
from typing import Any

import pytest

import perdure
from helpers.engines import Database, residents, run, until
from perdure import Retry, Retryable, RunFailed, step, workflow
from perdure.errors import StepFailed
from perdure.runtime.timers import Timers

_colour: contextvars.ContextVar[str] = contextvars.ContextVar("test_colour", default="none")


@step
async def paints(colour: str) -> str:
    found = _colour.get()
    _colour.set(colour)
    return found


@step
def paints_in_thread(colour: str) -> str:
    found = _colour.get()
    _colour.set(colour)
    return found


@workflow
async def painting(colour: str) -> list[str]:
    seen = [_colour.get()]
    for _ in range(3):
        seen.append(await paints(colour))
        seen.append(await paints_in_thread(colour))
        await asyncio.sleep(0.01)
        seen.append(_colour.get())
    return seen


def test_context_variables_do_not_leak_from_step_to_step(database: Database) -> None:
    async def main() -> None:
        async with database.engine() as engine:
            for found in await asyncio.gather(*(engine.run(painting(c)) for c in ("red", "blue"))):
                assert set(found) == {"none"}

    run(main)


@step
async def asks_who() -> str:
    return perdure.step_info().step_id


@workflow
async def finalises() -> list[str]:
    seen: list[str] = []

    async def pages() -> Any:
        try:
            yield await asks_who()
        finally:
            try:
                seen.append(perdure.step_info().step_id)
            except perdure.errors.UsageError:
                seen.append("no step")

    open_one = pages()
    await anext(open_one)
    seen.append(await asks_who())
    await open_one.aclose()
    return seen


def test_workflow_code_is_never_taken_for_a_step(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert (await engine.run(finalises()))[1] == "no step"

    run(main)


# -- extreme numbers ----------------------------------------------------------------------------------


@workflow
async def sleeps_for_ages(seconds: float) -> None:
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("seconds", [1e10, 1e12, 1e18, 1e300])
def test_a_sleep_beyond_the_calendar_hurts_nobody(database: Database, seconds: float) -> None:
    async def main() -> None:
        async with database.engine(evict_after=0.3) as engine:
            handle = await engine.start(sleeps_for_ages(seconds), id="ages")
            await until(lambda: residents(engine) == 0)
            (info,) = [info async for info in engine.runs()]
            assert info.status == "waiting"
            assert (await handle.info()).waiting_for
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()

    run(main)


@workflow
async def sleeps_badly(seconds: float) -> str:
    try:
        await asyncio.sleep(float("nan") if seconds < 0 else seconds)
    except ValueError:
        return "refused"
    return "slept"


def test_a_timer_at_nan_does_not_stop_the_timers_of_others(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await asyncio.gather(
                *(engine.run(sleeps_badly(seconds)) for seconds in (0.05, -1.0, 0.02, -1.0, 0.03))
            ) == ["slept", "refused", "slept", "refused", "slept"]

    run(main)


_waits = [float("inf"), float("-inf"), float("nan"), -5.0, 1e300]


@step(retry=Retry(max_attempts=2, initial=0.01))
async def asks_to_wait(which: int) -> str:
    if perdure.step_info().attempt == 1:
        raise Retryable("again", after=_waits[which])
    return "done"


@workflow
async def waits_oddly(which: int) -> str:
    return await asks_to_wait(which)


@pytest.mark.parametrize("which", range(len(_waits)))
def test_a_step_that_asks_for_an_odd_wait_leaves_a_readable_history(database: Database, which: int) -> None:
    async def main() -> None:
        async with database.engine() as engine:
            handle = await engine.start(waits_oddly(which))

            async def settled() -> bool:
                return len([event async for event in handle.history()]) >= 2

            await until(settled)
            assert [event async for event in handle.history()]
            await handle.info()
            if not _waits[which] > 1000:
                assert await handle.result() == "done"

    run(main)


@pytest.mark.parametrize(
    "options", [{"initial": float("inf")}, {"initial": float("nan")}, {"backoff": float("nan")}]
)
def test_a_policy_with_odd_numbers_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Retry"):
        Retry(**options)  # type: ignore[arg-type]


# -- input that can't be recorded, and replay -----------------------------------------------------------


@step
async def takes(value: float) -> float:
    return value


@step
async def takes_text(value: str) -> int:
    return len(value)


@workflow
async def gives_what_cannot_be_kept(how: str) -> list[str]:
    seen = []
    try:
        if how == "nan":
            await takes(float("nan"))
        else:
            await takes_text("x" * 10_000)
    except (perdure.NotSerializableError, StepFailed) as error:
        seen.append(type(error).__name__)
    await asyncio.sleep(1.2)
    return seen


@pytest.mark.parametrize("how", ["nan", "large"])
def test_input_that_cannot_be_kept_fails_the_same_way_on_replay(database: Database, how: str) -> None:
    async def main() -> None:
        async with database.engine(max_payload=5_000) as engine:
            handle = await engine.start(gives_what_cannot_be_kept(how), id="r")
            await until(lambda: engine._worker is not None and engine._worker.journal.commits >= 1)
            await asyncio.sleep(0.15)
        async with database.engine(max_payload=5_000) as engine:
            handle = engine.get("r")
            expected = "NotSerializableError" if how == "nan" else "PayloadTooLargeError"
            assert await handle.result() == [expected]

    run(main)


# -- the guard and the standard library -------------------------------------------------------------------


@workflow
async def knows_time_zones() -> str:
    zoneinfo.ZoneInfo.clear_cache()
    at = dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC).astimezone(zoneinfo.ZoneInfo("Europe/Berlin"))
    return at.isoformat()


def test_time_zones_may_be_read_in_workflow_code(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(knows_time_zones()) == "2024-07-01T14:00:00+02:00"

    run(main)


# -- errors of the engine's parts, poison ------------------------------------------------------------------


def test_an_alarm_that_fails_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    import time

    async def main() -> None:
        timers = Timers(asyncio.get_running_loop(), time.time)
        rung: list[str] = []

        def fails() -> None:
            raise RuntimeError("a test says so")

        now = time.time()
        timers.at(now + 0.01, fails)
        timers.at(now + 0.01, rung.append, "same moment")
        timers.at(now + 0.03, rung.append, "later")
        await until(lambda: len(rung) == 2)
        timers.at(time.time() + 0.01, rung.append, "made later")
        await until(lambda: len(rung) == 3)
        timers.close()

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(asyncio.wait_for(main(), 60))


@workflow
async def says(word: str) -> str:
    await asyncio.sleep(0.01)
    return word


@workflow
async def waits_long() -> str:
    await asyncio.sleep(600)
    return "never"


def test_mail_that_cannot_be_read_blocks_its_run_and_no_other(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with database.engine() as engine:
            handle = await engine.start(waits_long(), id="poisoned")
            await engine._store.send("poisoned", b"no event at all", now=0.0)
            engine._worker.look_soon()  # type: ignore[union-attr]

            async def blocked() -> bool:
                return await handle.status() == "blocked"

            assert await engine.run(says("still here")) == "still here"
            await until(blocked)
            assert (await handle.info()).reason

    run(main)


def test_mail_that_cannot_be_read_at_recovery_blocks_its_run_and_no_other(database: Database) -> None:
    async def main() -> None:
        async with database.engine(worker=False) as engine:
            await engine.start(waits_long(), id="poisoned")
            await engine._store.send("poisoned", b"no event at all", now=0.0)
        async with database.engine() as engine:
            handle = engine.get("poisoned")

            async def blocked() -> bool:
                return await handle.status() == "blocked"

            assert await engine.run(says("still here")) == "still here"
            await until(blocked)

    run(main)


@workflow
async def cancels_in_callback() -> str:
    task = asyncio.create_task(waits_long())
    task.add_done_callback(lambda done: done.result())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    return "done"


def test_a_callback_that_raises_cancelled_error_hurts_no_other_run(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            found = await asyncio.gather(
                engine.run(cancels_in_callback()), *(engine.run(says(str(n))) for n in range(20))
            )
            assert found == ["done", *(str(n) for n in range(20))]

    run(main)


# -- odd steps ------------------------------------------------------------------------------------------


@step(timeout=0.05, retry=Retry(max_attempts=1))
async def swallows_its_timeout() -> str:
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        pass
    return "late, but here"


@step
async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@step
async def raises_group() -> None:
    raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])


@workflow
async def calls_odd_steps() -> list[str]:
    seen = [await swallows_its_timeout()]
    for call in (cancels_itself(), raises_group()):
        try:
            await call
        except Exception as error:
            seen.append(type(error).__name__)
    return seen


def test_odd_steps_have_plain_outcomes(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(calls_odd_steps()) == ["late, but here", "StepFailed", "ExceptionGroup"]

    run(main)


@workflow
async def fails_with(text: str) -> None:
    raise RuntimeError(text)


def test_a_failing_run_tells_its_reason(memory: Database) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(RunFailed, match="because of this") as caught:
                await engine.run(fails_with("because of this"))
            assert isinstance(caught.value.__cause__, RuntimeError)

    run(main)
