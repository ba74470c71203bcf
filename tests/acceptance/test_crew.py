"""`perdure worker --workers N`: several processes under one that watches them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import program
import pytest
from world import PATIENCE, PERDURE, Process, World, bodies_begun, check_books, results

import perdure

pytestmark = pytest.mark.acceptance


def told(process: Process, pattern: str, times: int = 1) -> list[str]:
    """What the processes have said, once they have said it so often."""
    deadline = time.monotonic() + PATIENCE
    while len(found := re.findall(pattern, process.log.read_text())) < times:
        assert time.monotonic() < deadline, process.log.read_text()
        assert process.popen.poll() is None, process.log.read_text()
        time.sleep(0.02)
    return found


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_one_is_killed_another_takes_its_place_and_nothing_is_done_twice(
    world: World, figure: Callable[[str], None]
) -> None:
    async def scenario() -> None:
        crew = world.perdure("worker", "program", "--workers", "2", "--name", "crew", "--grace", "20")
        first, second = map(int, told(crew, r"Worker (\d+) serves", 2))
        told(crew, "2 workers are at work")
        async with world.client() as client:
            handles = await client.start_many([program.mixed(number) for number in range(10)])
            handles += await client.start_many([program.chain(30, 0.05) for _ in range(6)])
            await bodies_begun(world, 40)
            os.kill(first, signal.SIGKILL)
            (ended,) = told(crew, rf"process {first}, has ended \((\w+)\)")
            assert ended == "SIGKILL"
            third = int(told(crew, r"Worker (\d+) serves", 3)[-1])
            assert len({first, second, third}) == 3
            await results(handles)
            names = {worker.name for worker in await client.workers() if worker.state == "alive"}
            assert names == {"crew-1", "crew-2"}
            crew.signal(signal.SIGTERM)
            assert crew.wait() == 0
            assert not lives(second)
            assert not lives(third)
            findings = await check_books(world, client)
            figure(str(findings))

    asyncio.run(scenario())


def test_ctrl_c_once_hands_back_and_twice_ends_at_once(world: World) -> None:
    crew = world.perdure("worker", "program", "--workers", "2", "--grace", "600")
    pids = list(map(int, told(crew, r"Worker (\d+) serves", 2)))
    told(crew, "2 workers are at work")

    async def work() -> None:
        async with world.client() as client:
            await client.start_many([program.chain(1, 600.0) for _ in range(8)])
            await bodies_begun(world, 8)

    asyncio.run(work())
    crew.signal(signal.SIGINT)
    told(crew, "Stopping: steps have 600 s", 1)
    crew.signal(signal.SIGINT)
    assert crew.wait() == 130
    assert not any(map(lives, pids))


def test_without_the_one_that_watches_they_stop(world: World) -> None:
    crew = world.perdure("worker", "program", "--workers", "2")
    pids = list(map(int, told(crew, r"Worker (\d+) serves", 2)))
    os.kill(crew.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while any(map(lives, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert crew.log.read_text().count("all runs were handed back") == 2
    assert crew.wait() == -signal.SIGKILL


NESTED = """
import json, os, subprocess, sys

import perdure

PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]

@perdure.step
def starts_another() -> list[str]:
    command = [*PERDURE, "worker", "nested", "--queues", "other", "--name", "inner"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as inner:
        while "serves" not in inner.stderr.readline():
            assert inner.poll() is None
        there = json.loads(subprocess.check_output([*PERDURE, "workers", "--json"]))
        inner.terminate()
    hidden = ("PERDURE_CHILD", "PERDURE_WORKER", "NOTIFY_", "WATCHDOG_")
    return [name for name in os.environ if name.startswith(hidden)] + [worker["name"] for worker in there]

@perdure.workflow(name="nested.outer")
async def outer() -> list[str]:
    return await starts_another()
"""


@perdure.workflow(name="nested.outer")
async def nested_outer() -> list[str]:
    raise NotImplementedError("the workers have its code")


def test_a_worker_that_a_step_starts_is_none_of_them(world: World) -> None:
    """It would be called inner-1, and tell those who watch that one of them is ready, lives and stops."""
    (world.folder / "nested.py").write_text(NESTED)

    async def scenario() -> None:
        command = (*PERDURE, "worker", "nested", "--workers", "2", "--name", "crew")
        crew = world.start(*command, PERDURE_URL=world.url, WATCHDOG_USEC="600000000")
        told(crew, "2 workers are at work")
        async with world.client() as client:
            found = await client.run(nested_outer(), id="o")
            assert sorted(found) == ["crew-1", "crew-2", "inner"]
        crew.signal(signal.SIGTERM)
        assert crew.wait() == 0

    asyncio.run(scenario())


def test_what_is_wrong_with_the_program_is_told_once(world: World) -> None:
    crew = world.perdure("worker", "no_such_module", "--workers", "3")
    assert crew.wait() == 2
    assert crew.log.read_text().count("no_such_module") <= 3, "of one process, which says where it has looked"


def test_systemd_hears_that_all_are_ready_and_alive(world: World, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address := str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        crew = world.start(
            *PERDURE,
            "worker",
            "program",
            "--workers",
            "2",
            "--url",
            world.url,
            NOTIFY_SOCKET=address,
            WATCHDOG_USEC="600000",
        )
        heard = manager.recv(4096)
        assert heard.startswith(b"READY=1"), heard
        assert len(told(crew, r"Worker (\d+) serves", 2)) == 2
        for _ in range(3):
            assert manager.recv(4096) == b"WATCHDOG=1"
        pids = list(map(int, told(crew, r"Worker (\d+) serves", 2)))
        os.kill(pids[1], signal.SIGSTOP)  # it lives, and does nothing
        try:
            manager.settimeout(3.0)
            with pytest.raises(TimeoutError):
                while True:
                    assert manager.recv(4096) == b"WATCHDOG=1"
        finally:
            os.kill(pids[1], signal.SIGCONT)
        crew.signal(signal.SIGTERM)
        assert crew.wait() == 0
