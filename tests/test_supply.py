"""What development installs: by hash where the index can, else with a notice; and what the audit says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


def script(name: str) -> ModuleType:
    spec = util.spec_from_file_location(name, ROOT / "requirements" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Pip:
    """Takes what pip would be called with. `lacks`: the index hasn't got a locked file."""

    def __init__(self, *, lacks: bool, works: bool = True) -> None:
        self.lacks, self.works = lacks, works
        self.calls: list[list[str]] = []

    def __call__(self, arguments: Sequence[str]) -> int:
        self.calls.append(list(arguments))
        return int(self.lacks if "--require-hashes" in arguments else not self.works)


def test_the_lock_comes_first_and_the_project_after_it(capsys: pytest.CaptureFixture[str]) -> None:
    pip = Pip(lacks=False)
    assert script("install").install(pip) == 0
    locked, project = pip.calls
    assert locked[:2] == ["--require-hashes", "--no-deps"]
    assert Path(locked[-1]).name == "dev.lock"
    assert project == ["-e", ".[dev]"]
    assert capsys.readouterr().err == ""


def test_an_index_of_another_day_keeps_nobody_from_working(capsys: pytest.CaptureFixture[str]) -> None:
    pip = Pip(lacks=True)
    assert script("install").install(pip) == 0
    assert pip.calls[-1] == ["-e", ".[dev]"]
    assert "not checked by hash" in capsys.readouterr().err
    assert script("install").install(Pip(lacks=True), strictly=True) == 1
    assert script("install").install(Pip(lacks=True, works=False)) == 1


def test_uv_is_used_where_it_works_and_nothing_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install = script("install")
    (tmp_path / "uv").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    fails, settings, commands = False, "", list[list[str]]()

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        told = settings if "config" in command else ""
        return subprocess.CompletedProcess(command, int(fails and command[0].endswith("uv")), told, "")

    monkeypatch.setattr(install.subprocess, "run", run)
    assert install.main(["--into", "/other/python", "a>=1"]) == 0
    assert [Path(command[0]).name for command in commands if "install" in command] == ["uv"]
    assert commands[-1][-3:] == ["--python", "/other/python", "a>=1"]
    for fails, settings in ((True, ""), (False, "global.index-url='https://pypi.example.com'")):
        commands.clear()
        assert install.main(["--into", "/other/python", "a>=1"]) == 0
        assert commands[-1][1:] == ["-m", "pip", "--python", "/other/python", "install", "-q", "a>=1"], fails
    commands.clear()
    install.fetch_uv()
    (command,) = commands
    assert command[-4:-1] == ["--require-hashes", "--no-deps", "-r"]


def test_the_lock_has_a_hash_for_each_file_and_covers_what_is_needed() -> None:
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", lock.strip(), flags=re.IGNORECASE)
    pinned = {
        block.partition("==")[0].lower().replace("_", "-") for block in blocks if "==" in block.split("\n")[0]
    }
    assert len(pinned) > 100
    for block in blocks:
        assert "--hash=sha256:" in block, block[:200]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["dev"]]
    for line in list(wanted):
        if line.startswith("perdure["):
            for extra in line[len("perdure[") : -1].split(","):
                wanted += extras[extra]
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower().replace("_", "-") for line in wanted} - {"perdure"}
    assert names <= pinned, f"make lock: {sorted(names - pinned)}"


def test_the_audit_tells_what_is_known_and_skips_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    audit = script("audit")
    told, code = audit.verdict("", "Traceback\nConnectionError: no route to host")
    assert (told.startswith("notice: the audit is skipped"), code) == (True, 0)
    found = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.0"]}
    report = f'{{"dependencies": [{{"name": "a", "version": "1", "vulns": [{found!s}]}}, {{"name": "b"}}]}}'
    report = report.replace("'", '"')
    told, code = audit.verdict(report, "")
    assert code == 1
    assert "a 1: PYSEC-1, mended in 2.0" in told
    monkeypatch.setitem(audit.ACCEPTED, "CVE-1", "it isn't reached")
    assert audit.verdict(report, "") == ("2 packages, no known vulnerability", 0)
    slow = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(audit, "PATIENCE", 0.1)
    run = audit.subprocess.run
    monkeypatch.setattr(audit.subprocess, "run", lambda command, **options: run(slow, **options))
    told, code = audit.vulnerabilities()
    assert ("no answer within" in told, code) == (True, 0)


def test_users_get_no_licence_that_they_dont_expect() -> None:
    audit = script("audit")
    assert {"msgspec", "apsw"} <= audit.needed("perdure")
    assert audit.licences() == []
    for bad in ("GPL-3.0-only", "License :: OSI Approved :: GNU General Public License v3", "AGPL-3.0"):
        assert audit.UNWELCOME.search(bad), bad
    for fine in ("LGPL-3.0-only", "MIT", "GNU Lesser General Public License v3"):
        assert not audit.UNWELCOME.search(fine), fine
