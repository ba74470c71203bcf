"""The environment for tests of workflows: its clock, its mocks, its crashes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import perdure
from perdure import Rate, RateLimit, Retry, RunFailed, step, workflow
from perdure.errors import UsageError
from perdure.testing import Environment, StuckError, UnmockedStepError

#: Seconds by the real clock within which what takes no real time has to be over, however loaded the machine is.
SOON = 20.0

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await main()

    return asyncio.run(bounded())


def in_2030(function: Callable[[Environment], Awaitable[None]]) -> Callable[[], None]:
    """A test of an environment that begins in 2030."""

    async def main() -> None:
        async with Environment(now=NEW_YEAR) as env:
            await function(env)

    def test() -> None:
        run(main)

    return test


@step
async def fetch(url: str) -> str:
    return f"page of {url}"


@step
def computes(number: int) -> int:
    return number * 2


@step(timeout=5.0, retry=Retry(max_attempts=2, initial=1.0, jitter=False))
async def slow(number: int) -> int:
    return number


@step(once=True, verify=lambda who: pytest.fail("the real one isn't asked"))
async def charges(who: str) -> str:
    pytest.fail("the real one isn't called")


@workflow
async def monthly(url: str) -> list[str]:
    first = await fetch(url)
    await asyncio.sleep(30 * 86_400)
    return [first, await fetch("later"), perdure.now().isoformat()]


@workflow
async def computing() -> int:
    return await computes(21)


@workflow
async def approved() -> str:
    try:
        said = await perdure.receive("approval", bool, timeout=86_400)
    except TimeoutError:
        return "nobody answered"
    return f"approved: {said}"


@in_2030
async def test_a_month_takes_no_time(env: Environment) -> None:
    began = time.monotonic()
    assert await env.run(monthly("a")) == ["page of a", "page of later", "2030-01-31T00:00:00+00:00"]
    assert time.monotonic() - began < SOON
    assert env.now() == NEW_YEAR + timedelta(days=30)


@in_2030
async def test_time_passes_only_as_far_as_it_is_told_to(env: Environment) -> None:
    handle = await env.start(monthly("a"))
    await env.advance(days=29, hours=23)
    assert await handle.status() == "waiting"
    assert [wait.kind for wait in (await handle.info()).waiting_for] == ["timer"]
    await env.advance(timedelta(hours=1))
    assert await handle.status() == "completed"


@in_2030
async def test_what_is_due_on_the_way_happens_at_its_moment(env: Environment) -> None:
    @workflow(name="hourly")
    async def hourly() -> list[int]:
        hours = []
        for _ in range(5):
            await asyncio.sleep(3600)
            hours.append(perdure.now().hour)
        return hours

    handle = await env.start(hourly())
    await env.advance(days=1)
    assert await handle.result() == [1, 2, 3, 4, 5]


@in_2030
async def test_parts_of_seconds_add_up(env: Environment) -> None:
    @workflow(name="naps")
    async def naps() -> None:
        await asyncio.sleep(0.3)

    handle = await env.start(naps())
    for _ in range(3):
        await env.advance(0.1)
    assert await handle.status() == "completed"


@in_2030
async def test_a_message_arrives_and_a_wait_for_one_ends(env: Environment) -> None:
    handle = await env.start(approved(), id="sent")
    await env.advance(hours=23)
    await env.send("sent", "approval", True)
    assert await handle.status() == "completed"
    assert await handle.result() == "approved: True"
    assert await env.run(approved()) == "nobody answered"


@in_2030
async def test_a_restart_loses_nothing(env: Environment) -> None:
    handle = await env.start(monthly("a"))
    await env.advance(days=10)
    await env.restart()
    assert (await handle.result())[0] == "page of a"
    assert len(env.calls(fetch)) == 2
    await env.assert_replays(handle)


@in_2030
async def test_a_mock_takes_the_place_of_a_step(env: Environment) -> None:
    mock = env.mock(fetch, returns="mocked")
    assert (await env.run(monthly("a")))[:2] == ["mocked", "mocked"]
    mock.assert_called(times=2)
    mock.assert_called_with("later")
    mock.assert_any_call("a")
    assert [call.args for call in env.calls("fetch")] == [("a",), ("later",)]
    env.unmock(fetch)
    assert (await env.run(monthly("b")))[0] == "page of b"
    assert [call.mocked for call in mock.calls] == [True, True, False, False]


@in_2030
async def test_assertions_of_calls_tell_what_was_called(env: Environment) -> None:
    mock = env.mock(fetch, returns="mocked")
    mock.assert_not_called()
    with pytest.raises(AssertionError, match="was never called"):
        mock.assert_called()
    await env.run(monthly("a"))
    with pytest.raises(AssertionError, match=r"called 2 times, not 3\n  \('a'\), attempt 1 of"):
        mock.assert_called(times=3)
    with pytest.raises(AssertionError, match=r"last called as \('later'\), not as \('a'\)"):
        mock.assert_called_with("a")
    with pytest.raises(AssertionError, match=r"never called as \('c'\)"):
        mock.assert_any_call("c")
    with pytest.raises(AssertionError, match="called 2 times, not 1"):
        mock.assert_called_once_with("a")


@in_2030
async def test_a_mock_raises_and_is_tried_again_without_waiting(env: Environment) -> None:
    mock = env.mock(fetch, side_effect=[OSError("away"), OSError("still"), "page", "other"])
    assert (await env.run(monthly("a")))[:2] == ["page", "other"]
    assert [call.attempt for call in mock.calls] == [1, 2, 3, 1]
    mock = env.mock(fetch, raises=ValueError("not so"))
    with pytest.raises(RunFailed) as failed:
        await env.run(monthly("b"))
    assert isinstance(failed.value.__cause__, ValueError)


@in_2030
async def test_too_few_outcomes_are_told_of(env: Environment) -> None:
    env.mock(fetch, side_effect=["page"])
    with pytest.raises(RunFailed, match="was given 1 outcomes, and this is attempt 2"):
        await env.run(monthly("a"))


@in_2030
async def test_functions_are_called_with_the_arguments(env: Environment) -> None:
    async def fake(url: str) -> str:
        return f"fake {url} in attempt {perdure.step_info().attempt}"

    env.mock("fetch", side_effect=fake)
    assert (await env.run(monthly("a")))[0] == "fake a in attempt 1"
    env.mock(computes, side_effect=lambda number: -number)

    assert await env.run(computing()) == -21


@in_2030
async def test_a_mock_returns_what_the_step_could(env: Environment) -> None:
    env.mock(computes, returns="not a number")

    with pytest.raises(RunFailed, match="NotSerializableError"):
        await env.run(computing())


@in_2030
async def test_a_mock_takes_time_and_times_out(env: Environment) -> None:
    @workflow(name="waiting for it")
    async def waits() -> float:
        began = perdure.now()
        await slow(1)
        return (perdure.now() - began).total_seconds()

    env.mock(slow, returns=1, takes=4.0)
    assert await env.run(waits()) == 4.0
    mock = env.mock(slow, takes=math.inf)
    with pytest.raises(RunFailed, match="longer than its timeout of 5 s"):
        await env.run(waits())
    assert [call.attempt for call in mock.calls[-2:]] == [1, 2]


@in_2030
async def test_code_gives_up_a_step_that_never_ends(env: Environment) -> None:
    @workflow(name="impatient")
    async def impatient() -> str:
        try:
            async with asyncio.timeout(3600):
                return await fetch("a")
        except TimeoutError:
            return "an hour is enough"

    env.mock(fetch, takes=math.inf)
    assert await env.run(impatient()) == "an hour is enough"
    assert env.now() == NEW_YEAR + timedelta(hours=1)


@in_2030
async def test_a_once_step_is_verified_by_its_mock(env: Environment) -> None:
    @workflow(name="charging")
    async def charging() -> str:
        return await charges("anna")

    mock = env.mock(charges, returns="receipt")
    assert await env.run(charging()) == "receipt"
    mock.assert_called_once_with("anna")


def test_real_steps_are_refused() -> None:
    async def main() -> None:
        async with Environment(unmocked="refuse") as env:
            env.allow(computes)
            with pytest.raises(RunFailed, match=r"called as \('a'\) and has no mock") as failed:
                await env.run(monthly("a"))
            assert isinstance(failed.value.__cause__, UnmockedStepError)

            assert await env.run(computing()) == 42

    run(main)


def test_who_waits_for_nothing_is_told_what_the_run_waits_for() -> None:
    async def main() -> None:
        async with Environment(patience=0.05) as env:

            @workflow(name="lonely")
            async def lonely() -> None:
                await perdure.receive("company")

            with pytest.raises(StuckError, match=r"(?s)won't end: nothing is going to happen.*company"):
                await env.run(lonely(), id="alone")

    run(main)


def test_a_manual_clock_stands_still() -> None:
    async def main() -> None:
        async with Environment(time="manual") as env:
            handle = await env.start(monthly("a"))
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0.2)
            await env.advance(days=30)
            assert await handle.result()

    run(main)


def test_the_real_clock_passes_by_itself() -> None:
    async def main() -> None:
        async with Environment(time="real") as env:

            @workflow(name="napping")
            async def napping() -> float:
                began = perdure.now()
                await asyncio.sleep(0.05)
                return (perdure.now() - began).total_seconds()

            assert await env.run(napping()) >= 0.05
            with pytest.raises(UsageError, match="the real one"):
                await env.advance(1)

    run(main)


@in_2030
async def test_a_step_that_goes_on_is_waited_for(env: Environment) -> None:
    go = asyncio.Event()

    async def waits(url: str) -> str:
        await go.wait()
        return url

    env.mock(fetch, side_effect=waits)
    env.patience = 0.1
    await env.start(monthly("a"))
    with pytest.raises(TimeoutError, match="fetch"):
        await env.advance(days=1)
    go.set()
    await env.advance(days=1)


@in_2030
async def test_schedules_rate_limits_and_updates_follow_the_clock(env: Environment) -> None:
    limit = RateLimit("one an hour", requests=Rate(1, per=3600, burst=1))

    @step(name="limited", limit=limit)
    async def limited() -> str:
        return perdure.step_info().run_id

    @workflow(name="paced")
    async def paced() -> float:
        began = perdure.now()
        await limited()
        await limited()
        return (perdure.now() - began).total_seconds()

    assert await env.run(paced()) == pytest.approx(3600, abs=2)

    @workflow(name="asked")
    async def asked() -> None:
        async def slowly() -> str:
            await asyncio.sleep(86_400)
            return "done"

        perdure.on_update(slowly)
        await asyncio.sleep(10 * 86_400)

    handle = await env.start(asked())
    assert await handle.update("slowly") == "done"

    @workflow(name="ticks")
    async def ticks() -> None:
        await fetch("tick")

    await env.engine.schedules.create("hourly", ticks(), every=3600)
    before = env.now()
    await env.advance(hours=3)
    runs = [info async for info in env.engine.runs(workflow="ticks")]
    assert len(runs) == 3
    assert all(info.created_at > before for info in runs)


def test_it_works_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with Environment(now=NEW_YEAR) as env:
            assert len(await env.run(monthly("a"))) == 3
            handle = await env.start(monthly("a"))
            await env.advance(days=31)
            assert await handle.status() == "completed"

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_task_of_the_test_that_never_rests_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.testing.skipping.RESTLESS", 0.1)

    async def main() -> None:
        async with Environment(patience=0.1) as env:

            async def spins() -> None:
                while True:
                    await asyncio.sleep(0)

            spinning = asyncio.ensure_future(spins())
            try:
                with pytest.raises(StuckError, match=r"asyncio.sleep\(0\) in a loop"):
                    await env.run(monthly("a"))
                with pytest.raises(TimeoutError, match="event loop"):
                    await env.advance(days=1)
            finally:
                spinning.cancel()

    run(main)


def test_real_steps_may_take_longer_than_patience() -> None:
    @step(name="takes a while")
    def takes_a_while() -> int:
        time.sleep(0.3)
        return 1

    @workflow(name="waits a while")
    async def waits_a_while() -> int:
        await asyncio.sleep(60)
        return await takes_a_while()

    async def main() -> None:
        async with Environment(patience=0.05) as env:
            assert await env.run(waits_a_while()) == 1

    run(main)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"time": "soon"}, "time='soon'"),
        ({"time": "real", "now": NEW_YEAR}, "can't be set"),
        ({"unmocked": "maybe"}, "unmocked='maybe'"),
    ],
)
def test_options_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        Environment(**options)


def test_mocks_are_checked() -> None:
    env = Environment()
    with pytest.raises(UsageError, match="is no step"):
        env.mock(monthly, returns=1)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="more than one"):
        env.mock(fetch, returns=1, raises=OSError)
    with pytest.raises(UsageError, match="one by one"):
        env.mock(fetch, side_effect="text")
    with pytest.raises(UsageError, match="isn't open yet"):
        _ = env.engine
