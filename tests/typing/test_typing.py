"""The public API is typed by the decorated functions' signatures, for mypy and for pyright alike."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
GOOD = HERE / "public_api.py"

WRONG = {
    "an argument of another type": "fetch(3)",
    "an argument too many": 'fetch("a", "b")',
    "an argument missing": "fetch()",
    "an unknown keyword": 'fetch("a", no=1)',
    "a workflow's argument": "count(5)",
    "the result of a run": 'x: str = perdure.run(count("a"), url="memory:")',
    "an unknown option": "fetch.with_options(colour=1)",
    "on_parent_close": 'perdure.start(count("a"), on_parent_close="forget")',
    "if_exists": 'Engine("memory:").run(count("a"), if_exists="perhaps")',
    "the value of a callback": "x: int = perdure.callback(str).token",
    "the answer to a question": 'x: perdure.Call[int] = perdure.approve(fetch("a"))',
    "an approval that is none": "step(approval=3)",
    "a sync workflow": "workflow(len)",
    "an async predicate's name": "perdure.until(3)",
    "a message without a value": 'perdure.send("a", "b")',
    "a message that is none": 'Engine("memory:").start(count("a"), messages=["m"])',
    "a handler that is none": 'perdure.on_update("text")',
    "a validator that is none": "perdure.on_update(len, validator=3)",
    "a key that is no text": 'Engine("memory:").get("r").update("add", key=7)',
    "the items of a map": "perdure.map(fetch, [1, 2])",
    "a map over a plain function": 'perdure.map(len, ["a"])',
    "a check that takes something": "perdure.poll(fetch, every=1)",
    "a transactional step in a process": "step(transaction=lambda: None, process=True)",
    "the connection of a transactional step": 'sell(None, "book")',
}

PREAMBLE = """
import perdure
from perdure import Engine, step, workflow

@step
async def fetch(url: str) -> str:
    return url

@step(transaction=lambda: None)
def sell(connection: object, item: str) -> str:
    return item

@workflow
async def count(text: str) -> int:
    return len(text)

"""


def _check(tool: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = {
        "mypy": [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"],
        "pyright": [sys.executable, "-m", "pyright", "--pythonpath", sys.executable],
    }[tool]
    return subprocess.run(
        [*command, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    )


@pytest.mark.parametrize("tool", ["mypy", "pyright"])
def test_the_public_api_has_the_types_that_signatures_promise(tool: str) -> None:
    """`make lint` checks that file together with the package; here that is seen to, and done again in a soak."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][tool]
    assert "tests/typing" in settings[{"mypy": "files", "pyright": "include"}[tool]]
    assert settings.get("strict") or settings["typeCheckingMode"] == "strict"
    assert f"$(BIN)/{tool}" in (ROOT / "Makefile").read_text()
    if os.environ.get("PERDURE_SOAK") == "1":
        pytest.importorskip(tool)
        done = _check(tool, GOOD)
        assert done.returncode == 0, done.stdout + done.stderr


def test_wrong_uses_are_refused_by_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    lines: list[str] = [*PREAMBLE.splitlines()]
    at: dict[int, str] = {}
    for what, code in WRONG.items():
        lines.append(code)
        at[len(lines)] = what
    snippet = tmp_path / "snippet.py"
    snippet.write_text("\n".join(lines) + "\n")
    done = _check("mypy", snippet)
    refused = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert refused == set(at), {at.get(line, line) for line in refused ^ set(at)}
