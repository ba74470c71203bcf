"""A run whose code waits for what nothing will bring says so, with the place, and can be cancelled."""

from __future__ import annotations

import asyncio

from engine_kit import Place, run, until

import perdure
from perdure import Status


@perdure.step
async def double(number: int) -> int:
    return number * 2


@perdure.workflow
async def waits_for_nobody() -> None:
    await double(1)
    await asyncio.Event().wait()


@perdure.workflow
async def waits_for_a_task() -> int:
    ready = asyncio.Event()

    async def later() -> None:
        await double(1)
        ready.set()

    task = asyncio.create_task(later())
    await ready.wait()
    await task
    return 2


def test_a_deadlock_is_explained_and_can_be_cancelled(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for_nobody())

            async def waits() -> bool:
                return await handle.status() == Status.WAITING

            await until(waits)
            reason = (await handle.info()).reason or ""
            assert "an Event that nobody sets" in reason
            assert "test_engine_deadlock.py" in reason
            assert "in waits_for_nobody" in reason
            assert await engine.run(waits_for_a_task()) == 2
            await handle.cancel()
            try:
                await handle.result()
            except perdure.RunCancelled:
                return
            raise AssertionError("a cancellation should have ended it")

    run(main)


def test_a_deadlock_with_a_timeout_ends_by_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_for_nobody(), timeout=0.1)
            try:
                await handle.result()
            except perdure.RunTimedOut:
                return
            raise AssertionError("its timeout should have ended it")

    run(main)
