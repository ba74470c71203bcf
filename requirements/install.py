"""Installs what development needs into the Python that runs this: just the files whose hashes dev.lock has.

Indexes differ: a mirror of another day may lack a file, and a platform a wheel. Then a notice says so, and what the
lock couldn't give is installed by pyproject.toml's bounds, so that nobody is kept from working. With PERDURE_LOCKED=1
that is an error instead. `make lock` makes the lock anew.

pip takes a minute for all this; uv, which is in the lock, a few seconds. So pip installs uv, and uv the rest. uv knows
nothing of how pip is set up: where that matters, or uv fails for whatever reason, pip does everything.

python requirements/install.py                            all that development needs, here
python requirements/install.py --into PYTHON REQUIREMENT...  this, into another environment
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.lock"

#: Settings of pip that say where files come from: uv would look elsewhere.
SOURCES = ("index-url", "no-index", "proxy", "client-cert", "trusted-host")


def pip(arguments: Sequence[str], into: str = sys.executable) -> int:
    command = [sys.executable, "-m", "pip", "--python", into, "install", "-q", *arguments]
    return subprocess.run(command, cwd=ROOT).returncode


def quickest(arguments: Sequence[str], into: str = sys.executable) -> int:
    """By uv if that is there and works, else by pip."""
    if (uv := Path(sys.executable).parent / "uv").exists() and not configured():
        command = [str(uv), "pip", "install", "-q", "--python", into, *arguments]
        if subprocess.run(command, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 0:
            return 0
    return pip(arguments, into)


def configured() -> bool:
    """Whether pip is told to take files from elsewhere than PyPI."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    return any(source in line.partition("=")[0] for line in told.splitlines() for source in SOURCES)


def fetch_uv() -> None:
    """Install the locked uv, if that is possible."""
    if block := re.search(r"^uv==(?:.*\\\n)*.*\n", LOCK.read_text(encoding="utf-8"), re.MULTILINE):
        with tempfile.TemporaryDirectory() as folder:
            lines = Path(folder, "uv.lock")
            lines.write_text(block.group(), encoding="utf-8")
            pip(["--require-hashes", "--no-deps", "-r", str(lines)])


def install(run: Callable[[Sequence[str]], int] = quickest, *, strictly: bool = False) -> int:
    """Install everything; the exit code.

    Args:
        run: pip or uv, with what comes after `pip install -q`.
        strictly: fail if a file isn't the locked one.
    """
    locked = run(["--require-hashes", "--no-deps", "-r", str(LOCK)]) == 0
    if not locked:
        say(
            "notice: this index can't give all files that requirements/dev.lock names (see above), so versions that "
            "pyproject.toml allows are installed, and not checked by hash."
        )
        if strictly:
            return 1
    # Only what isn't there yet is looked for: after the lock, nothing but the project itself.
    return run(["-e", ".[dev]"])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--into"]:
        return quickest(arguments[2:], into=arguments[1])
    fetch_uv()
    return install(strictly=os.environ.get("PERDURE_LOCKED") == "1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
