"""Steps in queues, with real processes: whoever dies, they are done, recorded once, and recognised by their keys."""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Callable

import program
import pytest
from test_kills import seeded
from world import SOAK, Process, World, bodies_begun, check_books, results

from perdure import Handle, events

pytestmark = pytest.mark.acceptance

KILLS = 60 if SOAK else 6


def expected(number: int) -> int:
    return number * 3 + number * 2 + (0 + 3 + 6) + (number + 5) + number * number


def serves(world: World, queues: str) -> Process:
    worker = world.start_worker("--queues", queues, "--lease", "3")
    worker.wait_ready()
    return worker


def test_a_worker_of_the_queue_dies_in_the_middle_of_a_step(either: World) -> None:
    """Another one executes the step again, as the same attempt; meanwhile the run waits, and is told once."""

    async def scenario() -> None:
        async with either.client() as client:
            serves(either, "default")
            workers = {worker.pid: worker for worker in (serves(either, "gpu"), serves(either, "gpu"))}
            handle = await client.start(program.rendered(1, 3.0), id="r")  # 3 s in which to kill its worker
            await bodies_begun(either, 1)
            (first,) = either.lines()
            workers.pop(first.pid).kill()
            assert await handle.result(timeout=60) == 3
            bodies = [line for line in either.lines() if line.what == "begin"]
            assert [line.pid for line in bodies] == [first.pid, *workers]
            assert [line.attempt for line in bodies] == [1, 1]
            found = await check_books(either, client)
            assert (found.runs, found.steps, found.repeated) == (1, 1, 1)

    asyncio.run(scenario())


def test_a_step_that_its_workers_have_never_seen_with_a_queue(either: World) -> None:
    async def scenario() -> None:
        async with either.client() as client:
            serves(either, "default")
            serves(either, "gpu")
            first = await client.start(program.chosen(3))
            assert await first.result(timeout=60) == 9
            # they know of it now
            assert await results(await client.start_many([program.chosen(n) for n in range(20)])) == [
                n * n for n in range(20)
            ]

    asyncio.run(scenario())


SCRIPT = """
import asyncio, sys, perdure

class Declined(Exception):
    pass

@perdure.step(queue="gpu", retry=perdure.Retry(max_attempts=3, initial=0.01, on=(Declined,)))
async def charge(cents: int) -> int:
    if perdure.step_info().attempt < 3 or cents < 0:
        raise Declined("no", cents)
    return cents

@perdure.workflow
async def shop() -> list[int]:
    try:
        await charge(-1)
    except Declined as error:
        return [await charge(7), *error.args[1:]]
    return []

async def main() -> None:
    async with perdure.Engine(sys.argv[1]) as engine:
        print(await engine.run(shop(), id="r"))

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_script_catches_what_a_worker_has_raised_that_imports_it(world: World) -> None:
    """The classes of a script have other names in its own process than where it is imported."""
    script = world.folder / "shop_script.py"
    script.write_text(SCRIPT)
    world.perdure("worker", "shop_script", "--queues", "gpu")
    assert world.start(sys.executable, str(script), world.url).output() == "[7, -1]\n"


def test_kills_at_random_lose_nothing(either: World, figure: Callable[[str], None]) -> None:
    """Of workers that drive the runs, and of those that execute their steps."""
    chance = seeded(7)

    async def scenario() -> None:
        async with either.client() as client:
            workers = {queues: [serves(either, queues) for _ in range(2)] for queues in ("default", "gpu")}
            handles: list[Handle[int]] = []
            killed = {"default": 0, "gpu": 0}
            for number in range(KILLS):
                first = len(handles)
                handles += await client.start_many(
                    [program.film(n) for n in range(first, first + 6)],
                    ids=[f"r{n}" for n in range(first, first + 6)],
                )
                queues = ("gpu", "default")[number % 2]
                await bodies_begun(either, len(either.lines()) // 2 + chance.randrange(4))
                await asyncio.sleep(chance.random() * 0.1)
                victim = workers[queues].pop(0)
                victim.kill()
                killed[queues] += 1
                workers[queues].append(serves(either, queues))
            assert await results(handles) == [expected(n) for n in range(len(handles))]
            found = await check_books(either, client)
            assert found.runs == len(handles)
            figure(f"kills of workers: {killed}; {found}")

    asyncio.run(scenario())


def test_how_long_a_step_takes_to_another_worker(either: World, figure: Callable[[str], None]) -> None:
    """From when it is asked for to when its body begins,."""

    async def scenario() -> None:
        async with either.client() as client:
            serves(either, "default")
            serves(either, "gpu")
            for number in range(8):
                handle = await client.start(program.film(number), id=f"r{number}")
                assert await handle.result(timeout=60) == expected(number)
            taken: list[float] = []
            for number in range(8):
                history = [event async for event in client.get(f"r{number}").history()]
                sent = {e.step: e.at for e in history if isinstance(e, events.StepSent) and e.attempt == 1}
                taken += [
                    line.time - sent[line.step]
                    for line in either.lines()
                    if (line.what, line.run, line.attempt) == ("begin", f"r{number}", 1) and line.step in sent
                ]
            assert len(taken) == 40
            figure(
                f"from the call of a step to its body in another process: {statistics.median(taken) * 1000:.1f} ms "
                f"(median), {max(taken) * 1000:.1f} ms (longest)"
            )

    asyncio.run(scenario())
