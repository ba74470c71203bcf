"""PERDURE_CANARY=1 searches what a test leaves, and finds what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_leak_in_a_test_s_database_is_found_when_the_test_is_over() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", HERE / "leaky.py"],
        env={**os.environ, "PERDURE_CANARY": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR tests/canary/leaky.py::test_a_leak" in done.stdout
    assert "values of secrets were written down: ['leaky.db" in done.stdout
