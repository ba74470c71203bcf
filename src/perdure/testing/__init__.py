"""Tools for testing workflows, and for testing Perdure itself.

For workflows (see docs/guide/testing.md):

    Environment          an engine in memory, with a clock that jumps over waits, and mocks for steps; in pytest, the
                         fixture `perdure_env` is one
    crash_everywhere     runs a workflow, kills it at every event boundary, and tells what that changes
    assert_replays       replays recorded histories with today's code; `load_histories` reads exported ones
    recorded_histories   the same for those of `perdure verify --export-histories`, one test a history

For Perdure: `conformance/`, what every store has to pass; `simulation/`; `torture/`; `powerloss` and `disk`; `mortal`.

Nothing of it is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.crash_report import CrashFailure as CrashFailure
    from perdure.testing.crash_report import CrashReport as CrashReport
    from perdure.testing.crash_report import Finding as Finding
    from perdure.testing.crashing import crash_everywhere as crash_everywhere
    from perdure.testing.environment import Environment as Environment
    from perdure.testing.histories import RecordedHistory as RecordedHistory
    from perdure.testing.histories import recorded_histories as recorded_histories
    from perdure.testing.mock import Mock as Mock
    from perdure.testing.mock import StepCalled as StepCalled
    from perdure.testing.mocks import UnmockedStepError as UnmockedStepError
    from perdure.testing.replaying import RecordedRun as RecordedRun
    from perdure.testing.replaying import assert_replays as assert_replays
    from perdure.testing.replaying import load_histories as load_histories
    from perdure.testing.skipping import StuckError as StuckError

_WHERE = {
    "CrashFailure": "crash_report",
    "CrashReport": "crash_report",
    "Environment": "environment",
    "Finding": "crash_report",
    "Mock": "mock",
    "RecordedHistory": "histories",
    "RecordedRun": "replaying",
    "StepCalled": "mock",
    "StuckError": "skipping",
    "UnmockedStepError": "mocks",
    "assert_replays": "replaying",
    "crash_everywhere": "crashing",
    "load_histories": "replaying",
    "recorded_histories": "histories",
}

__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{where}"), name)
