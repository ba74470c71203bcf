"""The states a run can be in, and which of them are final."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a run stands. Compares equal to its plain string: `status == "completed"`."""

    QUEUED = "queued"  #: created, no worker has driven it yet
    RUNNING = "running"  #: a worker drives it, and a step is executing
    WAITING = "waiting"  #: nothing to do until a timer, a child or a message
    PAUSED = "paused"  #: held by a person until resumed
    BLOCKED = "blocked"  #: can't go on; `info().reason` says why
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED = "continued"  #: ended by continue_as; the next generation goes on

    @property
    def final(self) -> bool:
        """Whether a run in this state never changes again."""
        return self in FINAL


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED, Status.CONTINUED})
