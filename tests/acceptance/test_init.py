"""`perdure init` makes a project that runs as it stands."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from world import PERDURE

pytestmark = pytest.mark.acceptance


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PERDURE_URL": "sqlite:///runs.db"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_new_project_runs_at_once(tmp_path: Path) -> None:
    made = run(tmp_path, *PERDURE, "init", "My Shop")
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "My Shop"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == [
        ".gitignore",
        "Dockerfile",
        "README.md",
        "app.py",
        "docker-compose.yml",
        "my-shop.service",
        "pyproject.toml",
        "tests/test_app.py",
    ]
    assert all("__NAME__" not in (folder / name).read_text() for name in files)

    tested = run(folder, sys.executable, "-m", "pytest", "-q", "-s")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "2 passed" in tested.stdout
    assert "none of them changed anything" in tested.stdout
    for _ in range(2):
        done = run(folder, *PERDURE, "run", "app:welcome", "--input", '[["ann", "bob"]]', "--id", "w-1")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == ["hello ann", "hello bob"]

    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "my-shop"
    services = yaml.safe_load((folder / "docker-compose.yml").read_text())["services"]
    assert set(services) == {"database", "worker", "dashboard"}
    unit = configparser.ConfigParser()
    unit.read_string((folder / "my-shop.service").read_text())
    assert unit["Service"]["ExecStart"].endswith("perdure worker app --grace 20")

    linted = run(folder, *PERDURE, "lint", ".") if "lint" in run(folder, *PERDURE, "--help").stdout else None
    assert linted is None or linted.returncode == 0, linted.stdout


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    refused = run(tmp_path, *PERDURE, "init")
    assert refused.returncode != 0
    assert "app.py" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["app.py"]
    assert (tmp_path / "app.py").read_text() == "mine"
