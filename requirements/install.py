"""Installs what development needs into the Python that runs this: just the files whose hashes dev.lock has.

Indexes differ: a mirror of another day may lack a file, and a platform a wheel. Then a notice says so, and what the
lock couldn't give is installed by pyproject.toml's bounds, so that nobody is kept from working. With PERDURE_LOCKED=1
that is an error instead. `make lock` makes the lock anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "dev.lock"


def pip(arguments: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pip", "install", "-q", *arguments], cwd=ROOT).returncode


def install(run: Callable[[Sequence[str]], int] = pip, *, strictly: bool = False) -> int:
    """Install everything; the exit code.

    Args:
        run: pip, with what comes after `pip install -q`.
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


if __name__ == "__main__":
    sys.exit(install(strictly=os.environ.get("PERDURE_LOCKED") == "1"))
