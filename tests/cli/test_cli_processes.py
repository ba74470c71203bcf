"""The command as a process of its own: streams, exit codes, colours, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import flows
import pytest

import perdure

HERE = Path(__file__).parent
PERDURE = [sys.executable, "-c", "from perdure.cli import main; main()"]


@contextlib.contextmanager
def started(environment, *arguments, **options):
    """A command that goes on meanwhile, and not beyond."""
    with subprocess.Popen(
        [*PERDURE, *arguments], env=environment, stderr=subprocess.PIPE, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def environment(tmp_path):
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PERDURE_URL": f"sqlite:///{tmp_path}/runs.db", "PYTHONPATH": path}


def run(environment, *arguments, **more):
    return subprocess.run(
        [*PERDURE, *arguments],
        env={**environment, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_only_the_result_is_on_stdout(environment):
    done = run(environment, "run", "flows:parent", "--input", '"x"', "--id", "p")
    assert (done.returncode, done.stdout, done.stderr) == (0, '"xfine"\n', "")


def test_errors_are_on_stderr_with_exit_code_2(environment):
    done = run(environment, "run", "flows:nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")


def test_a_failed_run_exits_with_1(environment):
    done = run(environment, "run", "flows:fail", "--input", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ValueError: no zero, please" in done.stderr


def test_colours_only_for_terminals_and_never_with_no_color(environment):
    run(environment, "run", "flows:nothing", "--id", "n")
    assert "\x1b[" not in run(environment, "ls").stdout
    assert "\x1b[" in run(environment, "ls", FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = run(environment, "ls", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert "\x1b[3" not in plain
    assert "\x1b" not in run(environment, "ls", "--json", FORCE_COLOR="1").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_says_what_it_serves_and_stops_when_told(environment, number):
    with started(environment, "worker", "flows", "--queues", "default, slow", text=True) as worker:
        told = [worker.stderr.readline() for _ in range(4)]
        assert "serves sqlite://" in told[0]
        assert told[1].split() == ["queues", "default,", "slow"]
        assert "flows.total" in told[2]
        worker.send_signal(number)
        assert "handed back" in worker.stderr.read()
        assert worker.wait(60) == 0


def test_a_second_signal_ends_a_run_in_the_middle_of_a_step(environment):
    with started(environment, "run", "flows:sleepy", "--input", "60", "--id", "s") as client:
        while "step_started" not in run(environment, "show", "s", "--json").stdout:
            time.sleep(0.1)
        client.terminate()
        assert b"Handing" in client.stderr.readline()
        client.terminate()
        assert client.wait(60) == 128 + signal.SIGTERM


def test_a_step_that_outlasts_the_grace_does_not_hold_the_process(environment):
    with started(environment, "worker", "flows", "--grace", "0.1", text=True) as worker:
        while "Ctrl-C" not in worker.stderr.readline():
            pass
        asyncio.run(start_sleepy(environment["PERDURE_URL"]))
        while "step_started" not in run(environment, "show", "s", "--json").stdout:
            time.sleep(0.1)
        worker.terminate()
        assert "handed back" in worker.stderr.read()
        assert worker.wait(60) == 0


async def start_sleepy(url):
    async with perdure.Engine(url, worker=False) as engine:
        await engine.start(flows.sleepy(60), id="s")
