"""What a store knows of the processes that drive runs.

Times are wall-clock seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class WorkerRow(msgspec.Struct, frozen=True, gc=False):
    """A process that drives runs.

    Attributes:
        id: 0 before it is registered.
        host: identity of the machine, boot and process-id space; pids are comparable only within one.
        pid, born: the process and its start time in the system's own units (0 = unknown).
        lease_until: it counts as dead after this moment, wherever it runs.
        workflows: names of the workflows it has code for.
        version: what its users call the version of that code, "" if they don't.
        code: identifies the code; two workers that share it would fail on the same runs.
        heard_at, runs, steps, stopping: what its newest heartbeat told.
    """

    id: int
    name: str
    host: str
    pid: int
    born: int
    started_at: float
    lease_until: float
    queues: Sequence[str]
    workflows: Sequence[str]
    version: str = ""
    code: str = ""
    heard_at: float = 0.0
    runs: int = 0
    steps: int = 0
    stopping: bool = False


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """A worker's sign of life: it changes these fields of the worker's row.

    Attributes:
        lease_until: the end of its lease from now on.
        heard_at: when it was given.
        runs: how many runs it has in memory.
        steps: how many steps execute there.
        stopping: it takes no more runs, and leaves when its steps have ended.
    """

    lease_until: float
    heard_at: float
    runs: int = 0
    steps: int = 0
    stopping: bool = False
