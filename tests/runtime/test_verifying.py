"""`perdure verify` raises no false alarm: the code that recorded a history always fits it, whatever the history holds.

Programs that use each feature are run, and then all their runs, whatever became of them, are tried with the same code.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from perdure.core import events as ev
from perdure.storage import redacting

PROGRAMS = Path(__file__).parents[1] / "crash_everywhere" / "programs"
SOME = ("handlers", "generations", "elsewhere", "publications", "cancelling", "queues", "counterfactual")
#: Needs more than its own databases in its folder.
NOT = ("decisions",)

EPILOGUE = """

def _try_all() -> None:
    import glob

    from perdure.runtime import guard
    from perdure.runtime.verifying import Trial
    from perdure.runtime.verifyreading import verify_run
    from perdure.storage.histories import shape_of
    from perdure.storage.redacting import redacted
    from perdure.storage.urls import auditor_for

    guard.install()
    trial = Trial(10.0, 60.0)
    tried = 0
    for path in glob.glob("*.db"):
        auditor = auditor_for(f"sqlite:///{path}")
        for found in auditor.replayable(after=0, limit=1000, finished=True):
            recorded, verdict = verify_run(auditor, trial, found.run, version=found.version, finished=True)
            assert verdict is None, verdict.text
            assert shape_of(found.workflow, recorded.events)
            [redacted(event) for event in recorded.events]
            tried += 1
    assert tried


_try_all()
"""


@pytest.mark.parametrize(
    "name",
    [path.stem for path in sorted(PROGRAMS.glob("*.py")) if path.stem not in NOT]
    if os.environ.get("PERDURE_SOAK") == "1"
    else SOME,
)
def test_code_fits_what_it_has_recorded(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{name}.py"
    script.write_text((PROGRAMS / f"{name}.py").read_text() + EPILOGUE)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_it_is_said_of_each_field_of_bytes_whether_it_is_confidential() -> None:
    known = redacting.KEPT | redacting.LEFT_OUT | redacting.SEEDS | redacting.PAYLOADS
    structs = [
        kind for kind in vars(ev).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]
    fields = {
        field.name
        for kind in structs
        for field in msgspec.structs.fields(kind)
        if "bytes" in str(field.type) and "dict" not in str(field.type)
    }
    assert fields
    assert fields <= known, "storage/redacting.py must say what becomes of them"
