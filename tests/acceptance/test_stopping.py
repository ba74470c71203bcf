"""Stopping on purpose: SIGTERM, Ctrl-C and a second Ctrl-C neither lose nor repeat what was recorded."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable

import program
import pytest
from world import PATIENCE, World, bodies_begun, check_books, results

pytestmark = pytest.mark.acceptance


def test_sigterm_hands_runs_back_and_lets_steps_finish(world: World, figure: Callable[[str], None]) -> None:
    async def scenario() -> None:
        async with world.client() as client:
            handles = await client.start_many([program.mixed(number) for number in range(10)])
            handles += await client.start_many([program.chain(12, 0.05) for _ in range(5)])
            for stops in range(3):
                worker = world.start_worker()
                worker.wait_ready()
                await bodies_begun(world, 20 * (stops + 1))
                worker.signal(signal.SIGTERM)
                assert worker.wait() == 0
            world.start_worker()
            await results(handles)
            findings = await check_books(world, client)
            figure(str(findings))
            assert findings.repeated == 0, "steps had time to finish, so none was cut off"
            assert findings.taken_over == 0, "leaving in good order is no crash"

    asyncio.run(scenario())


def test_ctrl_c_hands_the_run_back_and_says_how_to_go_on(world: World) -> None:
    command = ("run", "program:chain", "--input", "[30, 0.05]", "--id", "it")
    first = world.perdure(*command)
    wait_for_lines(world, 5)
    first.signal(signal.SIGINT)
    assert first.output() == ""
    assert first.popen.returncode == 130
    told = first.log.read_text()
    assert "handed back" in told
    assert "perdure run program:chain" in told
    again = world.perdure(*command)
    assert json.loads(again.output()) == sum(2 * n for n in range(30))
    assert again.popen.returncode == 0

    async def check() -> None:
        async with world.client() as client:
            assert (await check_books(world, client)).repeated == 0

    asyncio.run(check())


def test_a_second_ctrl_c_ends_at_once_and_loses_nothing(world: World) -> None:
    command = ("run", "program:chain", "--input", "[4, 1.0]", "--id", "it")
    first = world.perdure(*command)
    wait_for_lines(world, 3)
    first.signal(signal.SIGINT)
    while "Handing" not in first.log.read_text():
        time.sleep(0.02)
    first.signal(signal.SIGINT)
    first.output()
    assert first.popen.returncode == 130
    again = world.perdure(*command)
    assert json.loads(again.output()) == 12

    async def check() -> None:
        async with world.client() as client:
            await check_books(world, client)

    asyncio.run(check())


def test_kill_in_the_middle_of_perdure_run_and_the_same_command_again(world: World) -> None:
    command = ("run", "program:chain", "--input", "[40, 0.02]", "--id", "it")
    for lines in (7, 20, 41):
        victim = world.perdure(*command)
        wait_for_lines(world, lines)
        victim.kill()
    last = world.perdure(*command)
    assert json.loads(last.output()) == sum(2 * n for n in range(40))
    once_more = world.perdure(*command)
    assert json.loads(once_more.output()) == sum(2 * n for n in range(40))

    async def check() -> None:
        async with world.client() as client:
            findings = await check_books(world, client)
            assert (findings.runs, findings.steps) == (1, 40)

    asyncio.run(check())


def wait_for_lines(world: World, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(world.lines()) < count:
        assert time.monotonic() < deadline, "no work is being done"
        time.sleep(0.01)
