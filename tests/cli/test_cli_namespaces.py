"""`--namespace`: commands that look at runs or change them work in one namespace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

import perdure
from perdure.cli.app import app


@perdure.workflow(name="cli_namespaces.quick")
async def quick() -> str:
    return "done"


def test_commands_work_in_one_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"

    async def fill() -> None:
        async with perdure.Engine(url) as engine:
            await engine.namespace("acme").run(quick(), id="theirs")
            await engine.run(quick(), id="plain")

    asyncio.run(fill())
    monkeypatch.setenv("PERDURE_URL", url)

    def told(*arguments: str) -> str:
        return CliRunner().invoke(app, list(arguments)).output

    assert "theirs" in told("ls", "-n", "acme")
    assert "plain" not in told("ls", "--namespace", "acme")
    assert ":acme/theirs" in told("ls")
    assert "theirs" not in told("ls", "-n", "beta")
    assert "completed" in told("show", "theirs", "-n", "acme")
    monkeypatch.setenv("PERDURE_NAMESPACE", "acme")
    assert "plain" not in told("ls")
    assert "theirs" in told("ls")
