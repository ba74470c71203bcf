"""Steps that wait in line for room in their worker: they begin one after the other, however many there are."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from engine_kit import Place, run, until

from perdure import step, workflow
from perdure.runtime.doorway import LINE_AT_ONCE
from perdure.runtime.steps import StepExecutor

#: More than the frames that Python lets a stack have.
MANY = 1_500

#: Of the test that is under way.
GATES: dict[str, asyncio.Event] = {}


@step(name="line.holds")
async def holds() -> str:
    await GATES["here"].wait()
    return "held"


@step(name="line.follows")
async def follows(number: int) -> int:
    """It waits for nothing, so it is over as soon as it has begun."""
    return number


@workflow(name="line.many")
async def many() -> list[int]:
    first = asyncio.create_task(holds())
    rest = [asyncio.create_task(follows(number)) for number in range(MANY)]
    await first
    return list(await asyncio.gather(*rest))


def test_a_long_line_is_done_when_the_one_in_front_is(memory: Place) -> None:
    async def main() -> None:
        gate = GATES["here"] = asyncio.Event()
        async with memory.engine(concurrency=1) as engine:
            handle = await engine.start(many())

            async def all_in_line() -> bool:
                assert engine._worker is not None
                return engine._worker.steps.occupied > MANY

            await until(all_in_line)
            gate.set()
            assert await handle.result() == list(range(MANY))

    run(main)


def test_the_loop_goes_on_while_a_long_line_is_done(memory: Place) -> None:
    """Heartbeats, say, don't wait for its end."""
    turns: list[int] = []

    def turn(steps: StepExecutor) -> None:
        turns.append(steps.occupied)
        if steps.occupied:
            asyncio.get_running_loop().call_soon(turn, steps)

    async def main() -> None:
        gate = GATES["here"] = asyncio.Event()
        async with memory.engine(concurrency=1) as engine:
            handle = await engine.start(many())
            assert engine._worker is not None
            steps = engine._worker.steps

            async def all_in_line() -> bool:
                return steps.occupied > MANY

            await until(all_in_line)
            turn(steps)
            gate.set()
            await handle.result()
            done = [before - after for before, after in pairwise(turns)]
            assert max(done) <= 2 * LINE_AT_ONCE < MANY

    run(main)


def test_a_long_line_is_done_once_the_lease_is_sure_again(memory: Place) -> None:
    """As after a pause of the whole process, amid which its lease was over as far as it knew."""

    async def main() -> None:
        GATES["here"] = asyncio.Event()
        GATES["here"].set()
        async with memory.engine() as engine:
            assert engine._worker is not None
            steps = engine._worker.steps
            now = engine._worker.clock()
            steps.sure_until(now - 1.0)
            handle = await engine.start(many())

            async def all_in_line() -> bool:
                return steps.occupied > MANY

            await until(all_in_line)
            steps.sure_until(now + 3600.0)
            assert await handle.result() == list(range(MANY))

    run(main)
