"""What events mean to a run: the half of the machine that matches what has happened with what the code asked for.

Each method here and in its bases takes one event and changes the run's open operations by it; whether the code then
gets a turn is told by the tables in machine.py. An event that nothing fits is a divergence (finding.py). The bases
know steps, timers and children (matching_calls.py), and what comes from outside (matching_mail.py). Here are the
records of what the code did, and what happens to the run as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core import mismatch
from perdure.core.matching_calls import StepError
from perdure.core.matching_mail import MatchingMail


class Matching(MatchingMail):
    """Open operations meet their outcomes.

    Attributes:
        terminating: the run ends as terminated, whatever its code makes of its cancellation.
    """

    __slots__ = (
        "_cancelled", "_late_cancel", "cancel_reason", "deadline_passed", "deadline_passed_at", "terminating",
    )  # fmt: skip

    def __init__(
        self, run_id: str, step_error: StepError, child_error: Callable[[ev.ChildEnded, str], BaseException]
    ) -> None:
        super().__init__(run_id, step_error, child_error)
        self.deadline_passed = False
        self.deadline_passed_at = 0.0
        self.terminating = False
        self.cancel_reason: str | None = None
        self._cancelled = False
        self._late_cancel: ev.CancelRequested | None = None  # it came when the code was done

    @property
    def cleaning_up(self) -> bool:
        """It was asked to end: by a cancellation, or its timeout."""
        return self._cancelled

    # -- records, and operations of any kind --------------------------------------------------------

    def _confirm(self, event: Any, value: Any) -> None:
        """What the code did is written down: on replay it must have done just that again."""
        done = None if self._records is None else self._records.pop(event.op, None)
        if done is None:
            raise self._unexpected(event)
        if msgspec.structs.replace(done.record, at=event.at) != event:
            raise mismatch.changed_record(self.run_id, self.seq, event, done.record, self.loop)
        if self._fresh.pop(event.op, None) is not None and self._doubt is not None:
            self._check_doubt(event.op)

    def _attributes_noted(self, event: ev.AttributesSet, value: Any) -> None:
        if event.op:
            self._confirm(event, value)

    def _drop_noted(self, event: ev.OperationDropped, value: Any) -> None:
        if event.operation not in self._dropped:
            raise self._unexpected(event)
        self._unask_cancel(event.operation)

    # -- the run as a whole -------------------------------------------------------------------------

    def _cancel_requested(self, event: ev.CancelRequested, value: Any) -> None:
        if self.loop.root is not None and self.loop.root.done():
            self._late_cancel = event
        if event.terminate and not self.terminating and not self.ended:
            self.terminating = True
            self.cancel_reason = event.reason
        self._cancel(event.reason)

    def _deadline(self, event: ev.DeadlinePassed, value: Any) -> None:
        if self.ended:  # by what was recorded before, and this changes nothing any more
            return
        self.deadline_passed = True
        self.deadline_passed_at = event.at
        self._cancel("the run's timeout is over")

    def _ended(self, event: ev.Event, value: Any) -> None:
        if not self.ended and not self.deadline_passed:
            raise self._unexpected(event)

    def _refuse(self, event: ev.Event, value: Any) -> None:
        raise self._unexpected(event)

    def _pass_over(self, event: ev.Event, value: Any) -> None:
        """It is there for people only."""

    def _cancel(self, reason: str | None) -> None:
        """Deliver the run's cancellation: once, to the root task, as asyncio does."""
        root = self.loop.root
        if self._cancelled or root is None or root.done():
            return
        self._cancelled = True
        if not self.terminating:
            self.cancel_reason = reason
        root.cancel(reason)
