"""What probes are told by real processes: one that hangs, one that drains, one whose database is away."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import program
import pytest
from world import PERDURE, Process, World, bodies_begun, logged, until

from helpers.postgres import Server

pytestmark = pytest.mark.acceptance

LIVE, READY = "/healthz", "/readyz"


def ask(port: int, path: str, timeout: float = 20.0) -> tuple[int, list[str]] | None:
    """The answer to a probe, None without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["reasons"]
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def tells(port: int, path: str, status: int) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        answer = await asyncio.to_thread(ask, port, path)
        return answer is not None and answer[0] == status

    return holds


async def worker(world: World, *options: str, **environment: str) -> tuple[Process, int]:
    """A worker, and its port for probes."""
    command = [*PERDURE, "worker", "program", "--url", world.url, "--health-port", "0", *options]
    process = world.start(*command, **environment)
    await logged(process, "Ctrl-C or SIGTERM")
    found = re.search(r"probes +http://127\.0\.0\.1:(\d+)/healthz", process.log.read_text())
    assert found, process.log.read_text()
    return process, int(found[1])


def health(world: World, port: int, *options: str) -> tuple[int, str]:
    """What the command for probes says."""
    process = world.start(*PERDURE, "health", "--port", str(port), *options)
    said = process.output()
    return process.popen.returncode, said


def test_a_stopped_worker_isnt_live_until_it_goes_on(world: World) -> None:
    async def scenario() -> None:
        process, port = await worker(world)
        assert ask(port, LIVE) == ask(port, READY) == (200, [])
        assert health(world, port) == (0, "live\n")
        process.signal(signal.SIGSTOP)
        assert ask(port, LIVE, timeout=1.0) is None, "the system takes the connection, and nobody answers"
        process.signal(signal.SIGCONT)
        await until(tells(port, LIVE, 200))
        await until(tells(port, READY, 200))

    asyncio.run(scenario())


def test_a_draining_worker_is_live_and_not_ready(world: World) -> None:
    """From the signal on, while a step's body is still at work."""

    async def scenario() -> None:
        process, port = await worker(world, "--grace", "600")
        async with world.client() as client:
            await client.start(program.chain(1, 600.0))
            await bodies_begun(world, 1)
            process.signal(signal.SIGTERM)
            await logged(process, "Stopping:")
            assert ask(port, READY) == (503, ["it is stopping"])
            assert ask(port, LIVE) == (200, [])
            assert health(world, port, "--ready") == (1, "not ready: it is stopping\n")
            assert process.popen.poll() is None
            process.signal(signal.SIGTERM)
            assert process.wait() == 143
            assert ask(port, LIVE) is None

    asyncio.run(scenario())


@pytest.fixture
def on_server() -> Iterator[Server]:
    made = Server()
    yield made
    made.remove()


def test_while_the_server_is_away_nobody_is_ready_and_everybody_lives(
    world: World, on_server: Server
) -> None:
    """Ending them would help nobody, and cost what they have in memory."""
    away = World(world.folder / "away", on_server)

    async def scenario() -> None:
        process, port = await worker(away)
        dashboard = away.perdure("serve", "--port", "0")
        await logged(dashboard, "Ctrl-C or SIGTERM")
        served = re.search(r"at http://127\.0\.0\.1:(\d+)", dashboard.log.read_text())
        assert served
        ports = [port, int(served[1])]
        for one in ports:
            await until(tells(one, READY, 200))
        on_server.stop()
        for one in ports:
            await until(tells(one, READY, 503))
            answer = ask(one, READY)
            assert answer is not None
            assert answer[1] == ["the database doesn't answer"]
            assert ask(one, LIVE) == (200, [])
        on_server.start()
        for one in ports:
            await until(tells(one, READY, 200))
        assert process.popen.poll() is None
        assert dashboard.popen.poll() is None

    try:
        asyncio.run(scenario())
    finally:
        away.close()


def test_systemd_is_told_that_it_is_ready_lives_and_stops(world: World) -> None:
    where = world.folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(where))
        told.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(where), "WATCHDOG_USEC": "300000"}

        async def scenario() -> None:
            process, _ = await worker(world, **environment)
            assert said(told) == ["READY=1", "STATUS=At work."]
            for _ in range(3):
                assert said(told) == ["WATCHDOG=1", "STATUS=At work."]
            process.signal(signal.SIGSTOP)
            told.settimeout(1.0)
            with contextlib.suppress(TimeoutError):
                for _ in range(10):  # what was on its way
                    said(told)
                raise AssertionError("a stopped process goes on saying that it lives")
            process.signal(signal.SIGCONT)
            told.settimeout(60)
            process.signal(signal.SIGTERM)
            while (line := said(told)) != ["STOPPING=1", "STATUS=Stopping."]:
                assert line[0] == "WATCHDOG=1"
            assert process.wait() == 0

        asyncio.run(scenario())


def said(told: socket.socket) -> list[str]:
    return told.recv(4096).decode().split("\n")
