"""The command line inside the test's process, in an empty folder with a database of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line's extra isn't installed")

from typer.testing import CliRunner

from perdure import Engine
from perdure.cli.app import app


@dataclass
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs commands."""

    folder: Path
    url: str

    def __call__(self, *arguments: str, url: str | None = "") -> Outcome:
        environment = {"PERDURE_URL": self.url if url == "" else url, "COLUMNS": "200", "TERM": "dumb"}
        result = CliRunner().invoke(app, arguments, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert (
            "Traceback (most recent call last)" not in result.stderr or "raised in the run" in result.stderr
        )
        return Outcome(result.exit_code, result.stdout, result.stderr)

    def fails(self, *arguments: str, code: int = 2, url: str | None = "") -> str:
        """What a command that can't work says."""
        outcome = self(*arguments, url=url)
        assert outcome.code == code, outcome
        assert outcome.out == ""
        return outcome.err

    def within(self, action: Callable[[Engine], Any]) -> Any:
        """Do something with a client engine on the same database."""

        async def act() -> Any:
            async with Engine(self.url, worker=False) as engine:
                return await action(engine)

        return asyncio.run(act())


@pytest.fixture(autouse=True)
def the_logs_stay_as_they_were() -> Iterator[None]:
    """A command sets how much of the engine's log is to be seen: for its process, which here is the tests' own."""
    logger = logging.getLogger("perdure")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Cli(tmp_path, f"sqlite:///{tmp_path / 'runs.db'}")
