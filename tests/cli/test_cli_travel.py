"""`perdure show ID --at SEQ`: the source with the line marked, and the variables beside it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from perdure import Engine
from perdure.cli import travel

MODULE = """
import asyncio
import perdure

@perdure.step
async def double(number: int) -> int:
    return number * 2

async def branch(name: str) -> int:
    first = await double(1)
    return first + await double(2)

@perdure.workflow
async def adds(text: str) -> int:
    found = []
    found.append(await double(1))
    both = await asyncio.gather(branch("a"), branch("b"))
    raise ValueError(text)
"""


@pytest.fixture
def told(cli: Any) -> Iterator[Any]:
    name = "travel_cli_app"
    (cli.folder / f"{name}.py").write_text(MODULE)
    sys.path.insert(0, str(cli.folder))
    module = importlib.import_module(name)

    async def fill() -> None:
        async with Engine(cli.url) as engine:
            handle = await engine.start(module.adds("\x1b[31mred <b>"), id="r-1")
            with pytest.raises(Exception, match="failed"):
                await handle.result(timeout=60)

    asyncio.run(fill())
    yield lambda *arguments: cli("show", "r-1", *arguments, "--module", name)
    sys.modules.pop(name)


def marked(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if line.startswith(" ▶ ")]


def test_the_current_line_is_marked_and_the_variables_are_beside_it(told: Any) -> None:
    shown = told("--at", "1").out
    assert "after event  1 of" in shown
    assert "● main  waits for step travel_cli_app.double#1" in shown
    (line,) = marked(shown)
    assert "found.append(await double(1))" in line
    assert "found = []" in shown
    shown = told("--at", "2").out
    assert "found = [2]" in shown
    assert len(marked(shown)) == 3
    assert "gather: 0 of 2 done; left: Task-1, Task-2" in shown
    assert "name = 'a'" in shown
    assert "name = 'b'" in shown


def test_what_ended_the_run_is_shown_where_it_was_raised(told: Any) -> None:
    shown = told("--at", "7").out
    assert "main  raised ValueError('\\x1b[31mred <b>')" in shown
    (line,) = marked(shown)
    assert "raise ValueError(text)" in line
    assert "\x1b" not in shown


def test_everything_as_json(told: Any) -> None:
    data = told("--at", "2", "--json").json
    assert (data["seq"], data["event"]["kind"], len(data["tasks"])) == (2, "step_completed", 3)
    frame = data["tasks"][0]["frames"][0]
    assert frame["variables"][1] == {"name": "found", "text": "[2]", "type": "list", "kind": "local"}
    assert data["sources"][frame["source"]]["lines"][0] == "@perdure.workflow"


def test_narrow_terminals_have_the_variables_below(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(travel, "_NARROW", 1000)
    lines = told("--at", "1").out.splitlines()
    assert [line for line in lines if line.strip() == "found = []"]


def test_what_is_missing_is_told(cli: Any, told: Any) -> None:
    told("--at", "1")
    assert "numbered from 1 to" in cli.fails("show", "r-1", "--at", "99", "--module", "travel_cli_app")
    assert "There is no module 'nowhere'" in cli.fails("show", "r-1", "--at", "1", "--module", "nowhere")
    assert "No run has the id" in cli.fails("show", "r-2", "--at", "1", "--module", "travel_cli_app")
