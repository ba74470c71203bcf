"""What the image and the unit execute, as they execute it: no root, an environment of its own, a folder of its own.

There is no daemon here to build the image with. So this takes the Dockerfile's last stage apart, and does what it says
as a user without rights.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from world import PATIENCE, PERDURE, REPOSITORY

pytestmark = pytest.mark.acceptance

DOCKERFILE = REPOSITORY / "deploy" / "docker" / "Dockerfile"

#: Whoever has least rights.
USER: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}

CODE = """
import perdure

@perdure.step
async def whoami() -> list[int]:
    import os
    return [os.getuid(), os.geteuid()]

@perdure.workflow
async def flow() -> list[int]:
    return await whoami()
"""


def last_stage() -> tuple[dict[str, str], list[str], list[str]]:
    """Its environment, its command, and the command of its health check."""
    text = DOCKERFILE.read_text().rpartition("\nFROM ")[2].replace("\\\n", " ")
    environment: dict[str, str] = {}
    for line in re.findall(r"(?m)^ENV (.*)$", text):
        environment.update(word.split("=", 1) for word in line.split())
    command = json.loads(re.search(r"(?m)^CMD (\[.*\])$", text)[1])  # type: ignore[index]
    probe = json.loads(re.search(r"(?m)^HEALTHCHECK .* CMD (\[.*\])$", text)[1])  # type: ignore[index]
    return environment, command, probe


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that the user owns."""
    for folder in (tmp_path.parent, tmp_path):
        folder.chmod(folder.stat().st_mode | 0o055)
    made = tmp_path / "srv"
    made.mkdir()
    (made / "app.py").write_text(CODE)
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        for path in (made, made / "app.py"):
            os.chown(path, user.pw_uid, user.pw_gid)
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Container:
    """Executes commands in a place with nothing but the image's environment, as nobody."""

    def __init__(self, place: Path, environment: dict[str, str], python: str, source: str) -> None:
        self.place = place
        self.python = python
        path = os.pathsep.join(filter(None, (str(place), source)))
        self.environment = {**environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": path, "HOME": str(place)}

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        assert command[0] == "perdure"
        return subprocess.Popen(
            [self.python, *PERDURE[1:], *command[1:]],
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **USER,
        )

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        process = self.start(command)
        said, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, said


def interpreter() -> tuple[str, str] | None:
    """A Python of this version that the user may execute, and what it needs in its path; root's home is closed."""
    packages = sysconfig.get_path("purelib")
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python, path in ((sys.executable, ""), (system, packages)):
        with contextlib.suppress(OSError, subprocess.SubprocessError, KeyError):
            source = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), path)))
            done = subprocess.run(
                [python, "-c", "import perdure.cli.app"],
                cwd="/",
                env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"},
                check=False,
                capture_output=True,
                timeout=60,
                **USER,
            )
            if done.returncode == 0:
                return python, source
    return None


def test_the_image_works_without_rights(place: Path) -> None:
    found = interpreter()
    if found is None:
        pytest.skip("no user without rights may execute this Python")
    environment, command, probe = last_stage()
    secret = place / "url"
    secret.write_text(f"sqlite:///{place}/runs.db")
    environment |= {
        "PERDURE_URL_FILE": str(secret),
        "PERDURE_HEALTH_HOST": "127.0.0.1",
        "PERDURE_HEALTH_PORT": "0",
    }
    container = Container(place, environment, *found)
    worker = container.start(command)
    try:
        assert worker.stdout is not None
        port = None
        for line in worker.stdout:
            if told := re.search(r"http://127\.0\.0\.1:(\d+)/healthz", line):
                port = told[1]
            if "Ctrl-C or SIGTERM" in line:
                break
        assert port is not None
        container.environment["PERDURE_HEALTH_PORT"] = port  # in a container it is the image's
        assert container.run(probe) == (0, "live\n")
        assert container.run([*probe, "--ready"]) == (0, "ready\n")
        code, said = container.run(["perdure", "run", "app:flow"])
        assert code == 0, said
        uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
        assert json.loads(said.splitlines()[-1]) == [uid, uid]
        worker.send_signal(signal.SIGTERM)
        said = worker.stdout.read()
        assert worker.wait(PATIENCE) == 0
        assert "all runs were handed back" in said
        deadline = time.monotonic() + PATIENCE
        while container.run(probe)[0] == 0:
            assert time.monotonic() < deadline
    finally:
        worker.kill()
        worker.wait()
        if worker.stdout is not None:
            worker.stdout.close()
