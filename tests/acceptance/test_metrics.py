"""What real workers tell Prometheus: their sums are what happened, also when one of them is killed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine

pytest.importorskip("prometheus_client", reason="the metrics' extra isn't installed")

pytestmark = pytest.mark.acceptance

PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]
FLOWS = """
import asyncio
from perdure import step, workflow

@step
async def quick(n: int) -> int:
    await asyncio.sleep(0.02)
    return n

@workflow
async def several(n: int) -> int:
    return sum([await quick(i) for i in range(n)])
"""
START = """
import asyncio, perdure, counted, sys

async def main():
    async with perdure.Engine(sys.argv[1], worker=False) as engine:
        handles = await engine.start_many([counted.several(10) for _ in range(40)])
        for handle in handles:
            await handle.result()

asyncio.run(main())
"""


class Worker:
    """A worker, and where it tells its metrics."""

    def __init__(self, folder: Path, url: str, *more: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*PERDURE, "worker", "counted", "--metrics-port", "0", "--metrics-database", *more, "--url", url],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stderr is not None
        self.address = ""
        for line in self.process.stderr:
            if found := re.search(r"metrics +(http://\S+)", line):
                self.address = found[1]
            if "stops it in good order" in line:
                break

    def numbers(self) -> Counter[str]:
        """Series by name and labels."""
        with urllib.request.urlopen(self.address, timeout=30) as answer:
            assert answer.headers["content-type"].startswith("text/plain")
            lines = answer.read().decode().splitlines()
        return Counter(
            {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}
        )

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "counted.py").write_text(FLOWS)
    (tmp_path / "start.py").write_text(START)
    return tmp_path


COMPLETED = 'perdure_runs_ended_total{status="completed",workflow="counted.several"}'
STEPS = 'perdure_steps_ended_total{outcome="completed",step="counted.quick"}'
TAKEN = 'perdure_runs_taken_over_total{workflow="counted.several"}'
WAITING = 'perdure_db_queue_depth{queue="default"}'
ALIVE = 'perdure_db_workers{state="alive"}'


def test_the_sums_over_workers_are_what_happened(folder: Path) -> None:
    url = f"sqlite:///{folder / 'runs.db'}"
    one, two = Worker(folder, url), Worker(folder, url)
    start = [sys.executable, "start.py", url]
    try:
        subprocess.run(start, cwd=folder, check=True, timeout=120)
        first, second = one.numbers(), two.numbers()
        assert first[COMPLETED] + second[COMPLETED] == 40
        assert first[STEPS] + second[STEPS] == 400
        assert first[TAKEN] + second[TAKEN] == 0
        assert first["perdure_db_up"] == second["perdure_db_up"] == 1

        two.process.send_signal(signal.SIGSTOP)  # so that all are the first one's
        client = subprocess.Popen(start, cwd=folder)
        while one.numbers()[STEPS] < first[STEPS] + 5:
            assert client.poll() is None, "all was done before the first one did anything"
            time.sleep(0.02)
        one.stop()
        two.process.send_signal(signal.SIGCONT)
        assert client.wait(120) == 0
        until = time.monotonic() + 60
        while (rest := two.numbers())[ALIVE] != 1 or rest[WAITING]:  # the database is read every few seconds
            assert time.monotonic() < until
            time.sleep(0.2)
        assert rest[TAKEN] > 0
        assert rest[COMPLETED] <= second[COMPLETED] + 40
        assert rest[STEPS] < second[STEPS] + 400  # what was done is not done again, and not counted again
        top = subprocess.run(
            [*PERDURE, "top", "--once", "--url", url], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        assert "1 of 1 alive" in top
        assert "counted.several" in top
    finally:
        one.stop()
        two.stop()


class Collector:
    """Somebody to whom OpenTelemetry's SDK tells everything, in this process."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, bytes]] = []
        arrived = self.arrived

        class Receiver(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                arrived.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def hears(self, path: str, *wanted: bytes) -> None:
        until = time.monotonic() + 60
        for each in wanted:
            while each not in b"".join(body for at, body in self.arrived if at == path):
                assert time.monotonic() < until, each
                time.sleep(0.1)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the exporter isn't installed")
    made = Collector()
    yield made
    made.close()


def test_a_worker_tells_the_same_over_otlp(folder: Path, collector: Collector) -> None:
    url = f"sqlite:///{folder / 'runs.db'}"
    worker = Worker(folder, url, "--otel", **collector.environment, OTEL_TRACES_EXPORTER="none")
    try:
        subprocess.run([sys.executable, "start.py", url], cwd=folder, check=True, timeout=120)
        collector.hears(
            "/v1/metrics",
            b"perdure.runs.ended",
            b"counted.several",
            b"perdure.step.duration",
            b"perdure.db.up",
        )
    finally:
        worker.stop()


@pytest.mark.parametrize("command", [("dev", "counted", "--no-reload"), ("serve",)])
def test_servers_tell_over_otlp_too(folder: Path, collector: Collector, command: tuple[str, ...]) -> None:
    pytest.importorskip("fastapi", reason="the server's extra isn't installed")
    url = f"sqlite:///{folder / 'runs.db'}"

    async def make() -> None:
        async with Engine(url, worker=False):
            pass

    asyncio.run(make())
    server = subprocess.Popen(
        [*PERDURE, *command, "--otel", "--port", "0", "--url", url],
        cwd=folder,
        env={**os.environ, **collector.environment},
    )
    try:
        collector.hears("/v1/metrics", b"perdure.db.up")
        if command[0] == "dev":
            subprocess.run([sys.executable, "start.py", url], cwd=folder, check=True, timeout=120)
            collector.hears("/v1/metrics", b"perdure.runs.ended", b"counted.several")
            collector.hears("/v1/traces", b"counted.several")
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait(30)
