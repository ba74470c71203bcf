"""Tries tests on a copy of the tree, with a limit, and tells what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mutations import ROOT

#: What a copy needs for its tests.
_PARTS = ("src", "tests", "examples", "docs", "pyproject.toml", "README.md", "ARCHITECTURE.md", "Makefile")

#: How long tests of the engine wait for anything that has to happen, in seconds: less than usual, since much won't.
PATIENCE = 20.0
#: The suite's own limit for a test (faulthandler_timeout in pyproject.toml), shorter for the same reason.
TEST_LIMIT = 60.0
#: After so many seconds the tests of a mutant are ended from here, and have caught nothing.
LIMIT = 300.0


class Outcome(NamedTuple):
    """What tests have said.

    Attributes:
        verdict: "failed", "passed", "hung" (ended by the suite's own limit for a test), "endless" (ended from here),
            "broken" (they couldn't be run, or were all skipped).
        test: which test has failed first, or hung.
        why: the first line of what it said.
        passed: how many tests passed before.
    """

    verdict: str
    test: str = ""
    why: str = ""
    passed: int = 0
    seconds: float = 0.0

    @property
    def caught(self) -> bool:
        return self.verdict in ("failed", "hung")

    @property
    def sure(self) -> bool:
        """Whether it needn't be tried again."""
        return self.caught or self.verdict == "passed"


#: The processes of tests that run right now.
_running: set[subprocess.Popen[bytes]] = set()
_over = threading.Event()


class OverError(Exception):
    """The hunt is over, so tests were ended amid their work, or not begun."""


def end_what_runs() -> None:
    """The hunt is over."""
    _over.set()
    for process in list(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def copy_tree(to: Path) -> Path:
    """Copy what tests need; compiled files go along, as long as their sources aren't changed they are used."""
    to.mkdir()
    for part in _PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, to / part, symlinks=True, ignore=shutil.ignore_patterns(".*", "*.db*"))
        elif source.exists():
            shutil.copy2(source, to / part)
    return to


def try_tests(root: Path, tests: Sequence[str], *, first_only: bool = True, limit: float = LIMIT) -> Outcome:
    """Run tests of a copy on the source of that copy.

    Args:
        first_only: end with the first that fails.
        limit: seconds after which they are ended.

    Raises:
        OverError: somebody has ended all.
    """
    if _over.is_set():
        raise OverError
    witness = root.parent / f"{root.name}.jsonl"
    witness.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root / "tests" / "mutants"))),
        "PERDURE_WITNESS": str(witness),
        "PERDURE_TEST_PATIENCE": f"{PATIENCE:g}",
    }
    options = ["-q", "-p", "witness", "-p", "no:cacheprovider", "-o", f"faulthandler_timeout={TEST_LIMIT:g}"]
    command = [sys.executable, "-m", "pytest", *options, *(["-x"] if first_only else []), *tests]
    began = time.monotonic()
    with (root.parent / f"{root.name}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _running.add(process)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _running.discard(process)
            _end_all(str(witness), process)
    if _over.is_set():
        raise OverError
    return _read(witness, code, time.monotonic() - began)


def _read(witness: Path, code: int | None, seconds: float) -> Outcome:
    lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
    passed = sum("passed" in line for line in lines)
    last = next((line["began"] for line in reversed(lines) if "began" in line), "")
    for line in lines:
        if "failed" in line:
            why = line["why"].strip().splitlines() or [""]
            return Outcome("failed", line["failed"], why[0][:200], passed, seconds)
    if code is None:
        return Outcome("endless", last, f"ended from outside after {seconds:.0f} s", passed, seconds)
    if code == 0 and passed:
        return Outcome("passed", passed=passed, seconds=seconds)
    if code == 1 and last and not any("exit" in line for line in lines):
        return Outcome(
            "hung", last, "hangs, and is ended by the suite's own limit for a test", passed, seconds
        )
    return Outcome("broken", last, f"pytest ended with {code}, {passed} tests passed", passed, seconds)


def _end_all(mark: str, process: subprocess.Popen[bytes]) -> None:
    """End the tests' process and whatever it has started and left, a database server for instance.

    Args:
        mark: a text in the environment of all of them, and of nobody else.
    """
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() not in (folder / "environ").read_bytes():
                continue
            data = (folder / "cwd").resolve()
            os.kill(int(folder.name), signal.SIGKILL)
        except OSError:  # it has gone meanwhile, or is somebody else's
            continue
        if data.parent.name.startswith("perdure-pg-"):
            shutil.rmtree(data.parent, ignore_errors=True)
