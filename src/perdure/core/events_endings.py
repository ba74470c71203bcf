"""How a run is asked to end, and how it ends."""

from __future__ import annotations

from perdure.core.events_base import Fact, Failure


class CancelRequested(Fact, frozen=True, tag="cancel_requested"):
    """The run is asked to end. With `terminate` it ends as terminated, whatever its code makes of it."""

    reason: str | None = None
    terminate: bool = False


class DeadlinePassed(Fact, frozen=True, tag="deadline_passed"):
    """The run was still going at its deadline; the code is cancelled."""


class RunCompleted(Fact, frozen=True, tag="run_completed"):
    """The workflow function returned. `unread` are the numbers of messages that it never received."""

    result: bytes
    unread: tuple[int, ...] = ()


class RunFailed(Fact, frozen=True, tag="run_failed"):
    failure: Failure
    timed_out: bool = False
    unread: tuple[int, ...] = ()


class RunCancelled(Fact, frozen=True, tag="run_cancelled"):
    reason: str | None = None
    unread: tuple[int, ...] = ()


class RunTerminated(Fact, frozen=True, tag="run_terminated"):
    """The run was ended from outside; `failure` is what its code raised while it was compensating, if anything."""

    reason: str | None = None
    failure: Failure | None = None
    unread: tuple[int, ...] = ()


class RunContinued(Fact, frozen=True, tag="run_continued"):
    """The run goes on in its next generation, with this call and an empty history."""

    workflow: str
    input: bytes
