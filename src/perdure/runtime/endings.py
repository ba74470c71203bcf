"""From how a workflow's code ended to the run's last event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from perdure.codec.events import encode_event
from perdure.codec.failures import failure_of
from perdure.codec.values import check_size
from perdure.core import events as ev
from perdure.core.commands import Ending, Finish
from perdure.core.continuing import ContinueAs
from perdure.core.machine import Machine
from perdure.core.status import Status
from perdure.runtime.definitions import WorkflowDefinition

T = TypeVar("T")

#: A final status and the event that goes with it.
Last = tuple[Status, ev.Final]


def last_event(
    finish: Finish, machine: Machine, definition: WorkflowDefinition, *, now: float, max_payload: int
) -> Last:
    """The end of a run whose code is done."""
    if machine.terminating:
        return _terminated(machine, finish.error, now)
    if machine.deadline_passed:
        return timed_out(machine, now)
    unread = _unread(machine)
    if finish.ending is Ending.CANCELLED:
        return Status.CANCELLED, ev.RunCancelled(at=now, reason=machine.cancel_reason, unread=unread)
    if finish.ending is Ending.CONTINUED:
        assert isinstance(finish.error, ContinueAs)
        return Status.CONTINUED, ev.RunContinued(now, finish.error.workflow, finish.error.input)
    if finish.ending is Ending.RAISED:
        assert finish.error is not None
        return Status.FAILED, ev.RunFailed(at=now, failure=failure_of(finish.error), unread=unread)
    try:
        data, _ = definition.result.record(finish.value)
        check_size(data, max_payload, f"result of workflow {definition.name}")
    except Exception as error:  # noqa: BLE001 - a result that can't be kept fails the run
        return Status.FAILED, ev.RunFailed(at=now, failure=failure_of(error), unread=unread)
    return Status.COMPLETED, ev.RunCompleted(at=now, result=data, unread=unread)


def _terminated(machine: Machine, error: BaseException | None, now: float) -> Last:
    """The end of a run that was terminated with compensation."""
    failure = None if error is None or isinstance(error, ContinueAs) else failure_of(error)
    reason, unread = machine.cancel_reason, _unread(machine)
    return Status.TERMINATED, ev.RunTerminated(at=now, reason=reason, failure=failure, unread=unread)


def _unread(machine: Machine) -> tuple[int, ...]:
    return () if machine.mailbox is None else tuple(number for number, _ in machine.mailbox.unread())


def without_messages(events: Iterable[tuple[ev.Event, T]]) -> list[tuple[ev.Event, T]]:
    """What a run's last append writes of what it has collected."""
    return [item for item in events if not isinstance(item[0], ev.MessageReceived)]


def timed_out(machine: Machine, now: float) -> Last:
    """The end of a run that was still going after its timeout."""
    if machine.terminating:
        return _terminated(machine, None, now)
    message = f"run {machine.run_id!r} was still going when its timeout was over, and was cancelled"
    failure = ev.Failure(type="perdure.errors.RunTimedOut", message=message)
    return Status.FAILED, ev.RunFailed(at=now, failure=failure, timed_out=True, unread=_unread(machine))


def told_to_parent(last: Last, parent_op: str) -> bytes:
    """The encoded event by which a parent hears of its child's end."""
    status, event = last
    result = event.result if isinstance(event, ev.RunCompleted) else None
    failure = event.failure if isinstance(event, ev.RunFailed) else None
    return encode_event(
        ev.ChildEnded(at=event.at, child=parent_op, status=status, result=result, failure=failure)
    )
