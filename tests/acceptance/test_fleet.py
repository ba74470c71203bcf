"""A client without a worker, a worker process and the command line on one file: all see the same, at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import program
import pytest
from world import World, logged, results

import perdure
from perdure import Engine

pytestmark = pytest.mark.acceptance


def test_results_reach_a_client_that_drives_nothing(world: World, figure: Callable[[str], None]) -> None:
    """What a web server does: starts runs, waits for results; a worker elsewhere does the work."""

    async def scenario() -> None:
        async with world.client() as client:
            worker = world.start_worker()
            worker.wait_ready()
            taken: list[float] = []
            for number in range(60):
                began = time.perf_counter()
                handle = await client.start(program.echo(f"request {number}"))
                assert await handle.result(timeout=60) == f"request {number}"
                taken.append((time.perf_counter() - began) * 1000)
            many = await client.start_many([program.leaf(number) for number in range(100)])
            assert await results(many) == [2 * n + n * n for n in range(100)]
            arrival = await arrival_times(client)
            taken.sort()
            figure(
                f"start to result across processes: {taken[30]:.1f} ms (median), {taken[-1]:.1f} ms (longest); "
                f"a result seen after its run's end: {arrival[len(arrival) // 2]:.1f} ms, {arrival[-1]:.1f} ms"
            )

    asyncio.run(scenario())


async def arrival_times(client: Engine) -> list[float]:
    """Milliseconds from a run's end, by its own history, to the moment a client has the result; sorted."""
    found: list[float] = []
    for number in range(30):
        handle = await client.start(program.leaf(number), id=f"arrival-{number}")
        await handle.result(timeout=60)
        seen = time.time()
        last = [event async for event in handle.history()][-1]
        found.append((seen - last.at) * 1000)
    return sorted(found)


def test_the_command_line_beside_a_worker_and_a_client(world: World) -> None:
    async def scenario() -> None:
        async with world.client() as client:
            worker = world.perdure("worker", "program")
            await logged(worker, "serves")
            long = await client.start(program.chain(1000, 0.05), id="long")
            done = world.perdure("run", "program:leaf", "--input", "3", "--id", "leaf-3")
            assert json.loads(done.output()) == 15
            listed = json.loads(world.perdure("ls", "--json").output())
            assert {run["id"] for run in listed} == {"long", "leaf-3"}
            assert world.perdure("cancel", "long", "--reason", "enough").output() == ""
            with pytest.raises(perdure.RunCancelled, match="enough"):
                await long.result(timeout=60)
            shown = json.loads(world.perdure("show", "long", "--json").output())
            assert (shown["status"], shown["history"][-1]["reason"]) == ("cancelled", "enough")
            assert await long.status() == "cancelled"
            worker.popen.terminate()
            assert worker.wait() == 0
            assert "handed back" in worker.log.read_text()

    asyncio.run(scenario())
