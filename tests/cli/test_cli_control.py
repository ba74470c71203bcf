"""`perdure cancel`, `perdure terminate`, and what the command says about itself."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta

import flows
import pytest

import perdure


@pytest.fixture
def waiting(cli):
    cli.within(lambda engine: engine.start(flows.wait(timedelta(hours=1)), id="open"))
    return cli


def test_cancel_asks(waiting):
    outcome = waiting("cancel", "open", "--reason", "enough")
    assert (outcome.code, outcome.out) == (0, "")
    assert "asked to cancel" in outcome.err
    told = waiting.fails("run", "flows:wait", "--input", '"PT1H"', "--id", "open", code=1)
    assert "was cancelled: enough" in told
    assert waiting("ls", "--json").json[0]["status"] == "cancelled"
    again = waiting("cancel", "open")
    assert again.code == 0
    assert "ended already (cancelled)" in again.err


def test_terminate_ends_at_once(waiting):
    assert "is terminated" in waiting("terminate", "open", "--reason", "now").err
    run = waiting("show", "open", "--json").json
    assert (run["status"], run["history"][-1]["reason"]) == ("terminated", "now")
    assert "ended already" in waiting.fails("terminate", "open")
    assert re.search(r"■\s+terminated\s+now", waiting("show", "open").out)


def test_terminate_can_let_a_run_compensate(waiting):
    told = waiting("terminate", "open", "--reason", "now", "--compensate").err
    assert "asked to compensate" in told
    assert not waiting("ls", "--json").json[0]["ended_at"]
    failed = waiting.fails("run", "flows:wait", "--input", '"PT1H"', "--id", "open", code=1)
    assert "was terminated: now" in failed
    shown = waiting("show", "open").out
    assert re.search(r"!\s+termination requested\s+now", shown)
    assert re.search(r"■\s+terminated\s+now", shown)
    assert "ended already" in waiting.fails("terminate", "open", "--compensate")


def test_a_blocked_run_shows_that_a_cancellation_waits(cli):
    async def start(engine):
        await engine.start(flows.sleepy(0.01), id="stuck", queue="nobody-serves-this")
        async with perdure.Engine(cli.url):
            while await engine.get("stuck").status() != "blocked":
                await perdure.sleep(0.05)

    cli.within(start)
    cli("cancel", "stuck", "--reason", "enough")
    told = re.sub(r"\s+", " ", cli("show", "stuck").out)
    assert "asked to cancel (enough)" in told
    assert "asked to cancel (enough)" in re.sub(r"\s+", " ", cli("why", "stuck").out)


def test_why_without_an_id_tells_of_all_that_dont_go_on(cli):
    async def start(engine):
        await engine.start(flows.sleepy(0.01), id="stuck", queue="nobody-serves-this")
        async with perdure.Engine(cli.url):
            while await engine.get("stuck").status() != "blocked":
                await perdure.sleep(0.05)

    cli.within(start)
    told = cli("why").out
    assert "1  No worker can go on with them, since" in told
    assert "runs: stuck" in told
    assert "what to do: perdure worker flows --queues nobody-serves-this" in told
    (group,) = cli("why", "--json").json["groups"]
    assert (group["kind"], group["count"]) == ("worker", 1)
    cli("terminate", "stuck")
    assert cli("why").out.strip() == "Nothing is blocked, paused, held back or slow."


def test_show_says_what_a_run_waits_for(waiting):
    async def drive(engine):
        async with perdure.Engine(waiting.url) as worker:
            handle = worker.get("open")
            while not (await handle.info()).waiting_for:
                await perdure.sleep(0.02)

    waiting.within(drive)
    assert re.search(r"waits for\s+timer .*since .*until .*\(in (1 h|59 min)", waiting("show", "open").out)
    (wait,) = waiting("show", "open", "--json").json["waiting_for"]
    assert wait["kind"] == "timer"


def test_a_blocked_run_shows_why(cli, monkeypatch):
    cli("run", "flows:sleepy", "--input", "0.01", "--id", "first")

    async def start(engine):
        await engine.start(flows.sleepy(0.01), id="stuck", queue="nobody-serves-this")
        async with perdure.Engine(cli.url):
            while await engine.get("stuck").status() != "blocked":
                await perdure.sleep(0.05)

    cli.within(start)
    (run,) = cli("ls", "--blocked", "--json").json
    assert run["id"] == "stuck"
    assert "no worker knows" in cli("show", "stuck").out
    assert "no worker knows" in cli("ls", "--blocked").out
    told = cli.fails("run", "flows:sleepy", "--input", "0.01", "--id", "stuck", code=1)
    assert "Run stuck is blocked" in told


def test_version(cli):
    assert cli("--version").out == f"perdure {perdure.__version__}\n"


def test_help_lists_the_commands(cli):
    told = cli("--help").out
    for command in ("run", "worker", "ls", "show", "cancel", "terminate", "demo"):
        assert re.search(rf"\b{command}\b", told)


@pytest.mark.parametrize("arguments", [["shw"], ["show"], ["run"], ["ls", "--nope"]])
def test_wrong_usage(cli, arguments):
    assert cli(*arguments).code == 2


def test_without_the_extra_it_says_what_to_install(tmp_path):
    program = "import sys; sys.modules['typer'] = None; from perdure.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'perdure[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
