"""Tasks that begin at once, on every Python and whatever the loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from typing import Any

import pytest

from perdure.runtime import eager

setting: contextvars.ContextVar[str] = contextvars.ContextVar("setting", default="nothing")


def begin(body: Any) -> asyncio.Task[None]:
    return eager.beginning_on(asyncio.get_running_loop())(body, contextvars.copy_context())


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=pytest.importorskip(request.param).new_event_loop) as given:
        yield given


def test_a_body_that_waits_for_nothing_is_done_at_once(runner: asyncio.Runner) -> None:
    seen: list[Any] = []

    async def body() -> None:
        seen.append(asyncio.current_task())
        setting.set("its own")

    async def main() -> None:
        outer = asyncio.current_task()
        task = begin(body())
        assert (seen, task.done(), asyncio.current_task()) == ([task], True, outer)
        assert setting.get() == "nothing"
        assert "call_soon" not in vars(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(lambda: seen.append(begin(body())))  # where no task is running
        await asyncio.sleep(0)
        assert seen[1] is seen[2]
        assert seen[1].done()

    runner.run(main())


def test_a_body_that_waits_goes_on_as_a_task(runner: asyncio.Runner) -> None:
    seen: list[Any] = []

    async def body(gate: asyncio.Event) -> None:
        async with asyncio.timeout(30):
            seen.append(asyncio.current_task())
            await gate.wait()
            seen.append(asyncio.current_task())

    async def main() -> None:
        gate = asyncio.Event()
        task = begin(body(gate))
        assert (seen, task.done()) == ([task], False)
        assert task in asyncio.all_tasks()
        gate.set()
        await task
        assert seen == [task, task]
        stopped = begin(body(asyncio.Event()))
        stopped.cancel()
        await asyncio.wait([stopped])
        assert stopped.cancelled()

    runner.run(main())


def test_what_a_body_raises_stays_in_its_task(runner: asyncio.Runner) -> None:
    async def body(error: BaseException) -> None:
        raise error

    async def main() -> None:
        task = begin(body(ValueError("no")))
        assert str(task.exception()) == "no"
        outer = asyncio.current_task()
        with pytest.raises(KeyboardInterrupt):  # as it comes out of every loop
            begin(body(KeyboardInterrupt()))
        assert asyncio.current_task() is outer

    runner.run(main())


def test_a_body_may_begin_another(runner: asyncio.Runner) -> None:
    seen: list[Any] = []

    async def body(depth: int) -> None:
        if depth:
            task = begin(body(depth - 1))
            assert task.done()
        seen.append((depth, asyncio.current_task()))

    async def main() -> None:
        task = begin(body(3))
        assert [depth for depth, _ in seen] == [0, 1, 2, 3]
        assert seen[-1][1] is task
        assert len({id(one) for _, one in seen}) == 4

    runner.run(main())


def test_a_loop_that_somebody_has_changed_is_left_as_it_is() -> None:
    calls: list[Any] = []

    async def body() -> None:
        calls.append("body")

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        plain = loop.call_soon

        def noting(callback: Any, *args: Any, context: Any = None) -> Any:
            calls.append("soon")
            return plain(callback, *args, context=context)

        loop.call_soon = noting
        task = begin(body())
        await task
        assert "body" in calls
        assert loop.call_soon is noting

    asyncio.run(main())
