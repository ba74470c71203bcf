"""Tests in several processes: each one once, told as by pytest alone, whatever becomes of a process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.forks import TOGETHER, batches

HERE = Path(__file__).parent

CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from helpers.forks import Forks

def pytest_configure(config):
    config.pluginmanager.register(Forks(2))
"""

MANY = """
import os
import sys
import pytest

ERRORS = sys.stderr  # as libraries have it

@pytest.mark.parametrize("number", range(25))
def test_it(number, tmp_path):
    print("said in process", os.getpid(), "not", os.getppid())
    print("and to who imported it", number, file=ERRORS)
    (tmp_path / "own").mkdir()
    assert number % 10 != 7
    if number == 3:
        pytest.skip("three is enough")
"""

DEADLY = """
import os

def test_before(): pass
def test_deadly(): os._exit(3)
def test_after(): pass
"""

SHARED = """
import os
import pytest

@pytest.fixture(scope="module")
def process():
    yield os.getpid()
    print("taken down")

@pytest.mark.parametrize("number", range(20))
def test_shared(number, process):
    assert process == os.getpid()
    assert number != 19
"""


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120).stdout


def test_what_they_do_is_told_as_ever(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_many.py").write_text(MANY)
    (tmp_path / "test_shared.py").write_text(SHARED)
    told = run(tmp_path)
    assert "3 failed, 41 passed, 1 skipped" in told
    assert "SKIPPED [1] test_many.py:15: three is enough" in told
    assert "taken down" in told
    processes = re.findall(r"said in process (\d+) not (\d+)", told)
    assert len(processes) == 24, "what a test prints is told with it, and only with it"
    assert len(re.findall(r"and to who imported it \d", told)) == 24
    (parent,) = {above for _, above in processes}
    assert 1 <= len({own for own, _ in processes} - {parent}) <= 2
    assert "stopping after" in run(tmp_path, "--maxfail=1"), "no batch is handed out any more"


def test_a_process_that_dies_fails_its_test_and_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_deadly.py").write_text(DEADLY)
    (tmp_path / "test_many.py").write_text(MANY)
    told = run(tmp_path)
    assert "test_deadly: the process that ran this test ended in it, with 3" in told
    assert "3 failed, 24 passed, 1 skipped" in told, "what it was given besides goes to others"


def test_the_longest_begin_and_what_is_shared_stays_together(request: pytest.FixtureRequest) -> None:
    items = request.session.items
    made = batches(items, ["tests/test_forks.py"])
    assert sorted(number for batch in made for number in batch) == list(range(len(items)))
    assert items[made[0][0]].path == Path(__file__)
    for batch in made:
        assert len({items[number].path for number in batch}) == 1
        assert len(batch) <= TOGETHER or any(
            found[-1].scope != "function"
            for number in batch
            for found in items[number]._fixtureinfo.name2fixturedefs.values()
        )
