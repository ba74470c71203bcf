"""Who can write to the database can change state, but can't run code in workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HELPER = Path(__file__).parents[1] / "helpers" / "hostile_rows.py"
DATABASES = 200 if os.environ.get("PERDURE_SOAK") == "1" else 12


def test_no_row_makes_a_worker_run_code(tmp_path: Path) -> None:
    """Every table and column, and events whose checksums hold, with what an attacker would put there."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(HELPER), str(tmp_path), str(DATABASES)],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["fired"] == [], json.dumps(told["fired"][:3], indent=1)
    # each worker did its other work meanwhile, unless the database as a whole was refused
    outcomes = [outcome.partition(":")[0] for outcome in told["outcomes"]]
    assert set(outcomes) <= {"lives", "refused"}
    assert outcomes[0] == "lives"
    assert len(outcomes) == DATABASES + 2
    assert outcomes.count("lives") > DATABASES // 2
