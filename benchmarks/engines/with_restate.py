"""Restate at work: this process is its client, and starts the server and the Python service beside it.

The server keeps its log in the folder that is given, and syncs it, as it does by default. What is tuned in its favour:
the service runs under Granian with HTTP/2 (the SDK's usual server costs more for each call), the client is a bare
HTTP/1.1 one, a service that comes back is called again within milliseconds, and no limit holds invocations back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.engines.measuring import (
    Figures,
    Sizes,
    disk_bytes,
    growth,
    laps,
    main,
    rate,
    spread,
    stopwatch,
)

#: Requests on their way at a time; more of them made it slower.
AT_ONCE = 256

SETTINGS = {
    "RESTATE_DISABLE_TELEMETRY": "true",
    "RESTATE_DISABLE_PROMETHEUS": "true",
    "RESTATE_LOG_FILTER": "error",
    "RESTATE_DEFAULT_NUM_PARTITIONS": "4",  # of 24: there are few cores
    "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "20000",
    "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "10m",
    "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "10ms",
    "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "50ms",
    "RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS": "unlimited",
}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Client:
    """Calls by HTTP/1.1, over connections that are kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def call(self, path: str, body: object = None, method: str = "POST") -> Any:
        content = json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        async with self._at_once:
            if self._idle:
                reader, writer = self._idle.pop()
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
            writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
            status, answer = await self._read(reader)
            self._idle.append((reader, writer))
        if status >= 300:
            msg = f"{path}: {status} {answer!r}"
            raise RuntimeError(msg)
        return json.loads(answer) if answer else None

    async def _read(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in head[1:-2])
        if length := int(fields.get(b"content-length", 0)):
            body = await reader.readexactly(length)
        elif fields.get(b"transfer-encoding") == b"chunked":
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            body = b""
        return int(head[0].split()[1]), body


class Restate:
    """The server, the service, and a client of the server."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.ingress, self.admin = Client(_free_port()), Client(_free_port())
        self._service_port, self._node_port = _free_port(), _free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (self.folder / "processes.log").open("wb")

    def _run(self, command: list[str], **environment: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    async def start(self, *, holding: bool = False) -> None:
        self.server = self._run(
            [
                os.environ["BENCH_RESTATE_SERVER"],
                *("--no-logo", "--listen-mode", "tcp", "--base-dir", str(self.folder / "restate")),
                *("--bind-port", str(self._node_port)),
            ],
            **SETTINGS,
            RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{self.ingress.port}",
            RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{self.admin.port}",
        )
        await self.serve(holding=holding)
        await self._until(lambda: self.admin.call("/health", method="GET"))
        await self.admin.call("/deployments", {"uri": f"http://127.0.0.1:{self._service_port}"})
        await self._until(lambda: self.ingress.call("/bench/report", 0))

    async def serve(self, *, holding: bool = False) -> None:
        """Start the service, and wait until it can be called."""
        self.service = self._run(
            [
                *(sys.executable, "-m", "granian", "--interface", "asgi", "--http", "2", "--loop", "uvloop"),
                *("--host", "127.0.0.1", "--port", str(self._service_port), "--workers", "1"),
                *("--no-ws", "--log-level", "error", "benchmarks.engines.restate_service:app"),
            ],
            BENCH_HOLDING="1" if holding else "",
        )

        async def reachable() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", self._service_port)
            writer.close()

        await self._until(reachable)

    async def _until(self, attempt: Callable[[], Awaitable[object]]) -> None:
        for _ in range(6000):
            try:
                await attempt()
                return
            except (OSError, RuntimeError, EOFError):
                await asyncio.sleep(0.01)
        msg = f"Restate doesn't start; see {self._log.name}"
        raise RuntimeError(msg)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self._processes:
            self.kill(process)


def with_restate(
    folder: str, work: Callable[[Restate], Awaitable[Figures]], *, holding: bool = False
) -> Figures:
    async def run() -> Figures:
        restate = Restate(folder)
        try:
            await restate.start(holding=holding)
            return await work(restate)
        finally:
            restate.close()

    return asyncio.run(run())


def sequential(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        await restate.ingress.call("/bench/count", {"steps": 20})
        with stopwatch() as seconds:
            await restate.ingress.call("/bench/count", {"steps": sizes["steps"]})
        return rate(sizes["steps"], seconds())

    return with_restate(folder, work)


def many(folder: str, sizes: Sizes) -> Figures:
    runs, steps = sizes["runs"], sizes["steps"]

    async def work(restate: Restate) -> Figures:
        call = restate.ingress.call
        await asyncio.gather(*(call("/bench/count", {"steps": 2}) for _ in range(min(runs, 100))))
        with stopwatch() as seconds:
            results = await asyncio.gather(*(call("/bench/count", {"steps": steps}) for _ in range(runs)))
        assert results == [steps] * runs
        return rate(runs * steps, seconds())

    return with_restate(folder, work)


def latency(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        return await laps(sizes["times"], lambda _: restate.ingress.call("/bench/count", {"steps": 1}))

    return with_restate(folder, work)


def message(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        await restate.ingress.call("/talk/key/answer/send", sizes["times"] + 10)
        return await laps(sizes["times"], lambda n: restate.ingress.call("/talk/key/ask", n + 10))

    return with_restate(folder, work)


def timers(folder: str, sizes: Sizes) -> Figures:
    number = sizes["timers"]

    async def work(restate: Restate) -> Figures:
        begin = time.time() + sizes["lead"]
        await asyncio.gather(
            *(restate.ingress.call("/bench/sleep_until/send", begin + n / number) for n in range(number))
        )
        assert time.time() < begin - 0.5, "they weren't asleep in time"
        await asyncio.sleep(begin + 1 - time.time())
        while len(late := (await restate.ingress.call("/bench/report", 0))["late"]) < number:
            await asyncio.sleep(0.2)
        return spread(late)

    return with_restate(folder, work)


def _interrupted(folder: str, runs: int, steps: int) -> Figures:
    """Kill the service with all runs in the step after their last recorded one, and start another."""

    async def work(restate: Restate) -> Figures:
        body = {"steps": steps, "hold": True}
        await asyncio.gather(*(restate.ingress.call("/bench/count/send", body) for _ in range(runs)))
        while (await restate.ingress.call("/bench/report", 0))["holding"] < runs:
            await asyncio.sleep(0.2)
        restate.kill(restate.service)
        await restate.serve()
        with stopwatch() as seconds:
            while (await restate.ingress.call("/bench/report", 0))["ended"] < runs:
                await asyncio.sleep(0.01)
            return {"seconds": seconds()}

    return with_restate(folder, work, holding=True)


def recovery(folder: str, sizes: Sizes) -> Figures:
    return _interrupted(folder, 1, sizes["steps"])


def restart(folder: str, sizes: Sizes) -> Figures:
    return _interrupted(folder, sizes["runs"], sizes["steps"])


def sleepers(folder: str, sizes: Sizes) -> Figures:
    """Restate's disk and memory only: the server is up all the time, so there is no first wake."""

    async def work(restate: Restate) -> Figures:
        due = time.time() + 86_400
        before = disk_bytes(restate.folder)
        await asyncio.gather(
            *(restate.ingress.call("/bench/sleep_until/send", due) for _ in range(sizes["runs"]))
        )
        await asyncio.sleep(5)
        return {"disk_bytes_per_run": (disk_bytes(restate.folder) - before) / sizes["runs"]}

    return with_restate(folder, work)


def mapped(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        await restate.ingress.call("/bench/spread_out", 20)
        with stopwatch() as seconds:
            assert await restate.ingress.call("/bench/spread_out", sizes["items"]) == sizes["items"]
        return rate(sizes["items"], seconds(), "items_per_s")

    return with_restate(folder, work)


def payloads(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        body = {"steps": 5, "size": sizes["bytes"]}
        await restate.ingress.call("/bench/produce_many", body)
        with stopwatch() as seconds:
            await restate.ingress.call("/bench/produce_many", body | {"steps": sizes["steps"]})
        return rate(sizes["steps"], seconds())

    return with_restate(folder, work)


def growing(folder: str, sizes: Sizes) -> Figures:
    async def work(restate: Restate) -> Figures:
        await restate.ingress.call("/bench/count", {"steps": 20})
        stamps = await restate.ingress.call("/bench/count_and_stamp", sizes["steps"])
        return growth(stamps, (100, 1_000, 10_000, 100_000))

    return with_restate(folder, work)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # by way of what closes everything
    main(
        sequential,
        many,
        latency,
        message,
        timers,
        recovery,
        restart,
        sleepers,
        mapped,
        payloads,
        growing,
    )
