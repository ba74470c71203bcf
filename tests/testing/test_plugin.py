"""The pytest plugin, in fresh interpreters: found by its entry point, with each way to run async tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import perdure

SOURCE = Path(perdure.__file__).parents[1]
PROJECT = Path(__file__).parents[2] / "pyproject.toml"

FLOW = """
import asyncio
import perdure
import pytest
from perdure import step, workflow

@step
async def fetch(url: str) -> str:
    raise AssertionError("the real one")

@workflow
async def monthly(url: str) -> str:
    await asyncio.sleep(30 * 86_400)
    return await fetch(url)

async def check(env):
    mock = env.mock(fetch, returns="page")
    assert await env.run(monthly("a")) == "page"
    mock.assert_called_once_with("a")
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder that makes the package look installed, with the entry points of pyproject.toml."""
    site = tmp_path / "site"
    info = site / "perdure_under_test-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: perdure-under-test\nVersion: 1\n")
    points = tomllib.loads(PROJECT.read_text())["project"]["entry-points"]["pytest11"]
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[pytest11]\n{lines}")
    return site


#: Plugins that the development environment has, and that take seconds to import.
WITHOUT = ("-p", "no:langsmith_plugin", "-p", "no:schemathesis", "-p", "no:hypothesispytest")


def pytest_in(folder: Path, site: Path, text: str, *options: str, ini: str = "") -> tuple[str, int]:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text(
        f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{ini}"
        if find_spec("pytest_asyncio")
        else f"[pytest]\n{ini}"
    )
    path = os.pathsep.join([str(SOURCE), str(site), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "--strict-markers",
            *WITHOUT,
            *options,
            "test_it.py",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PERDURE_URL": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr, done.returncode


def passes(number: int, told: tuple[str, int]) -> None:
    text, code = told
    assert code == 0, text
    assert f"{number} passed" in text


def test_with_nothing_but_pytest(tmp_path: Path, installed: Path) -> None:
    text = (
        FLOW
        + """
async def test_a_month(perdure_env):
    await check(perdure_env)

@pytest.mark.parametrize("url", ["a", "b"])
@pytest.mark.perdure(unmocked="refuse")
async def test_refused(perdure_env, url, tmp_path):
    with pytest.raises(perdure.RunFailed, match="refuses real steps"):
        await perdure_env.run(monthly(url))

def test_not_async(perdure_env):
    with pytest.raises(perdure.errors.UsageError, match="async test"):
        perdure_env.engine

@pytest.mark.perdure(time="real")
class TestReal:
    async def test_it(self, perdure_env):
        with pytest.raises(perdure.errors.UsageError, match="the real one"):
            await perdure_env.advance(1)

    @pytest.mark.perdure(time="skip")
    async def test_nearest_counts(self, perdure_env):
        await perdure_env.advance(1)
"""
    )
    passes(6, pytest_in(tmp_path, installed, text, "-p", "no:anyio"))


def test_failures_are_those_of_the_test(tmp_path: Path, installed: Path) -> None:
    text = (
        FLOW
        + """
async def test_a_month(perdure_env):
    perdure_env.mock(fetch, returns="page")
    assert await perdure_env.run(monthly("a")) == "other"

async def test_never_called(perdure_env):
    perdure_env.mock(fetch, returns="page").assert_called()

@pytest.mark.perdure("real")
async def test_positional(perdure_env):
    pass
"""
    )
    told, code = pytest_in(tmp_path, installed, text)
    assert code == 1
    assert "AssertionError: assert 'page' == 'other'" in told
    assert "step 'test_it.fetch' was never called" in told
    assert "give options by name" in told
    assert "2 failed, 1 error" in told


def test_with_anyio(tmp_path: Path, installed: Path) -> None:
    text = (
        FLOW
        + """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_a_month(perdure_env):
    await check(perdure_env)

@pytest.fixture
async def started(perdure_env):
    yield await perdure_env.start(monthly("a"))

@pytest.mark.anyio
async def test_with_a_fixture_that_uses_it(started, perdure_env):
    perdure_env.mock(fetch, returns="page")
    assert await started.result() == "page"
"""
    )
    passes(2, pytest_in(tmp_path, installed, text))


@pytest.mark.skipif(find_spec("pytest_asyncio") is None, reason="pytest-asyncio isn't installed")
@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_with_pytest_asyncio(tmp_path: Path, installed: Path, mode: str) -> None:
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    fixture = "@pytest_asyncio.fixture" if mode == "strict" else "@pytest.fixture"
    text = (
        FLOW
        + f"""
import pytest_asyncio

{mark}
async def test_a_month(perdure_env):
    await check(perdure_env)

{fixture}
async def started(perdure_env):
    yield await perdure_env.start(monthly("a"))

{mark}
async def test_with_a_fixture_that_uses_it(started, perdure_env):
    perdure_env.mock(fetch, returns="page")
    assert await started.result() == "page"
"""
    )
    passes(2, pytest_in(tmp_path, installed, text, ini=f"asyncio_mode = {mode}\n"))


def test_whoever_does_not_use_it_does_not_pay_for_it(tmp_path: Path, installed: Path) -> None:
    text = """
import sys

def test_nothing_is_imported(request):
    assert request.config.pluginmanager.has_plugin("pytest_perdure")
    assert not [name for name in sys.modules if name.partition(".")[0] == "perdure"]
"""
    passes(1, pytest_in(tmp_path, installed, text))


def test_it_can_be_switched_off(tmp_path: Path, installed: Path) -> None:
    text = "def test_it(perdure_env):\n    pass\n"
    told, code = pytest_in(tmp_path, installed, text, "-p", "no:pytest_perdure")
    assert code == 1
    assert "fixture 'perdure_env' not found" in told


def test_the_guides_tests_pass(tmp_path: Path, installed: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "testing.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python test\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for number, block in enumerate(blocks):
        folder = tmp_path / str(number)
        folder.mkdir()
        told, code = pytest_in(folder, installed, block)
        assert code == 0, told
