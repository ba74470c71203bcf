"""Finding the workflow that `module:name` means, and helping when it isn't there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import Cli
from perdure.cli.app import COMMANDS


def test_a_module_that_is_not_there(cli):
    (cli.folder / "invoices.py").write_text("")
    told = cli.fails("run", "invoice:pay")
    assert "no module 'invoice'" in told
    assert "Did you mean invoices" in told
    assert str(cli.folder) in told


def test_the_current_folder_is_looked_in_first(cli):
    (cli.folder / "mine_only.py").write_text(
        "import perdure\n\n@perdure.workflow\nasync def five() -> int:\n    return 5\n"
    )
    assert cli("run", "mine_only:five").json == 5


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("needs_more", "import not_installed_anywhere", "No module named 'not_installed_anywhere'"),
        ("half_written", "def f(:", "SyntaxError"),
        ("divides", "x = 1\ny = x / 0", "divides.py, line 2: y = x / 0"),
    ],
)
def test_a_module_that_fails_on_import(cli, name, source, told):
    (cli.folder / f"{name}.py").write_text(source)
    message = cli.fails("run", f"{name}:f")
    assert f"module '{name}' can't be imported" in message
    assert told in message


def test_a_workflow_that_is_not_there(cli):
    told = cli.fails("run", "flows:totl")
    assert "Did you mean total?" in told
    assert "flows:echo" in told


@pytest.mark.parametrize(
    ("target", "kind"), [("flows:add", "a step"), ("flows:NOT_A_WORKFLOW", "of type int")]
)
def test_something_that_is_no_workflow(cli, target, kind):
    told = cli.fails("run", target)
    assert f"is {kind}" in told
    assert "@perdure.workflow" in told


def test_a_module_alone_lists_its_workflows(cli):
    assert "flows:total" in cli.fails("run", "flows")


@pytest.mark.parametrize("target", [":total", "flows:", "", ":"])
def test_half_a_target(cli, target):
    assert "module:workflow" in cli.fails("run", target)


@pytest.mark.parametrize("target", ["flows.py:total", "./flows.py:total", "some/flows.py:total"])
def test_a_path_instead_of_a_module(cli, target):
    told = cli.fails("run", target)
    assert "file's path" in told
    assert "flows" in told


def test_a_worker_for_modules_without_workflows(cli, monkeypatch):
    (cli.folder / "bare.py").write_text("")
    for names in ("workflow_names", "step_names"):  # this process knows those of all tests
        monkeypatch.setattr(f"perdure.cli.worker.{names}", list)
    assert "no workflow in bare" in cli.fails("worker", "bare")


def test_a_worker_without_queues(cli):
    assert "names no queue" in cli.fails("worker", "flows", "--queues", " , ")


def test_a_command_is_imported_when_it_is_called_and_not_before(cli: Cli) -> None:
    """Nobody waits for what the other commands need; with all of them a start took twice as long."""
    code = (
        "import sys; from typer.testing import CliRunner; from perdure.cli.app import COMMANDS, app\n"
        "assert CliRunner().invoke(app, ['vacuum', '--help']).exit_code == 0\n"
        "modules = {f'perdure.cli.{module}' for module in COMMANDS.values()}\n"
        "print(sorted(modules & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "['perdure.cli.disk']\n"


def test_help_lists_every_command(cli: Cli) -> None:
    told = cli("--help").out
    for name in COMMANDS:
        assert f" {name} " in told, name
