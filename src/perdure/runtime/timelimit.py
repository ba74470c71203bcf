"""What becomes of a run that is still going at the end of its `timeout=`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.runtime.endings import Last, timed_out
from perdure.runtime.work import Work

#: How long a run past its timeout may take for cleaning up, in seconds.
CLEANUP_SECONDS = 30.0


class TimeLimited:
    """The part of a driver that looks after the run's timeout."""

    __slots__ = ()

    machine: Machine
    work: Work

    if TYPE_CHECKING:

        def record(self, event: ev.Event, value: Any = ...) -> None: ...
        def end(self, last: Last) -> None: ...
        def flush(self) -> None: ...
        def now(self) -> float: ...

    def deadline_passed(self) -> None:
        machine = self.machine
        since = machine.deadline_passed_at if machine.deadline_passed else self.now()
        self.work.arm("cleanup", since + CLEANUP_SECONDS, _cleanup_over, self)
        if not machine.deadline_passed:
            self.record(ev.DeadlinePassed(at=since))

    def cleanup_over(self) -> None:
        if self.machine.compensating:  # a half undone saga helps nobody: see again when it may be done
            self.work.arm("cleanup", self.now() + CLEANUP_SECONDS, _cleanup_over, self)
            return
        self.end(timed_out(self.machine, self.now()))
        self.flush()


def _cleanup_over(work: Work, run: TimeLimited) -> None:
    run.cleanup_over()
