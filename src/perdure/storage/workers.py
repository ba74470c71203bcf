"""Workers, as a store knows them."""

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
