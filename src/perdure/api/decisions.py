"""What a person decides about a step that waits for one: from the choice to the event that tells the run."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from perdure.codec.events import decode_event
from perdure.codec.failures import failure_of
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.scope import operation_name
from perdure.core.timeline import is_since, wait_named
from perdure.core.why import quoted
from perdure.errors import NothingToDecideError, StepFailed, UsageError
from perdure.runtime.definitions import step_named
from perdure.storage.records import History

UNDECIDED: Any = object()

_ANY = ValueCodec[Any](Any, "result given for a step")


class Choice(NamedTuple):
    """One of the three ways a waiting step can go on."""

    result: Any
    rerun: bool
    fail: str | bool
    mark: ev.Decision


def choice(
    *,
    result: Any,
    rerun: bool,
    fail: str | bool,
    by: str | None,
    why: str | None,
    since: float | datetime | None,
) -> Choice:
    """Check that exactly one way is chosen.

    Raises:
        UsageError: none is, or several are; or `since` has no time zone.
    """
    if isinstance(since, datetime):
        if since.tzinfo is None:
            msg = f"since={since!r}: give a moment with a time zone, or the seconds that the wait tells"
            raise UsageError(msg)
        since = since.timestamp()
    if (result is not UNDECIDED) + rerun + (fail is not False) != 1:
        msg = "resolve() takes one of result=..., rerun=True and fail=...: a step can go on in one way only"
        raise UsageError(msg)
    return Choice(result, rerun, fail, ev.Decision(by, why, since))


def decision(run_id: str, history: History, step: str, chosen: Choice, *, now: float) -> ev.Event:
    """The event to send to the run.

    Args:
        history: the run's, with its mail, in which an earlier decision may still lie.
        step: the step's id, or its name if only one of that name waits.

    Raises:
        NothingToDecideError: no such step waits, or it does because of something else than was looked at.
        NotSerializableError: the result doesn't fit the step.
    """
    parked = _the_one(run_id, _waiting(history), step)
    if chosen.mark.since is not None:
        _check_meant(run_id, parked, chosen.mark.since)
        chosen = chosen._replace(mark=msgspec.structs.replace(chosen.mark, since=parked.at))
    if chosen.rerun:
        return ev.StepRerun(at=now, step=parked.step, decision=chosen.mark, started_at=parked.started_at)
    if chosen.fail is not False:
        return ev.StepFailed(
            at=now,
            step=parked.step,
            attempt=parked.attempt,
            started_at=parked.started_at,
            failure=_failure(parked, chosen.fail),
            input=parked.input,
            fingerprint=parked.fingerprint,
            decision=chosen.mark,
        )
    definition = step_named(operation_name(parked.step))
    codec = _ANY if definition is None else definition.result
    data, _ = codec.record(chosen.result)
    return ev.StepCompleted(
        at=now,
        step=parked.step,
        attempt=parked.attempt,
        started_at=parked.started_at,
        result=data,
        input=parked.input,
        fingerprint=parked.fingerprint,
        decision=chosen.mark,
        stubbed=parked.refused,
    )


def _waiting(history: History) -> dict[str, ev.StepParked]:
    """The steps that wait for a decision, and for which none is on its way."""
    waiting: dict[str, ev.StepParked] = {}
    for data in (*history.events, *(item.data for item in history.mail)):
        match decode_event(data):
            case ev.StepParked() as parked:
                waiting[parked.step] = parked
            case ev.StepCompleted(step=step) | ev.StepFailed(step=step) | ev.StepRerun(step=step):
                waiting.pop(step, None)
            case ev.OperationDropped(operation=step):
                waiting.pop(step, None)
            case _ as event:
                if isinstance(event, ev.FINAL):
                    waiting.clear()
    return waiting


def _the_one(run_id: str, waiting: dict[str, ev.StepParked], step: str) -> ev.StepParked:
    if step in waiting:
        return waiting[step]
    named = [
        parked
        for op_id, parked in waiting.items()
        if step in ((name := operation_name(op_id)), name.rpartition(".")[2])
    ]
    if len(named) == 1:
        return named[0]
    which = ", ".join(repr(op_id) for op_id in waiting)
    if named:
        msg = f"several steps of run {run_id!r} go by {step!r} and wait for a decision: give the id of one of {which}"
    elif waiting:
        msg = f"step {step!r} of run {run_id!r} doesn't wait for a decision; these do: {which}"
    else:
        msg = f"no step of run {run_id!r} waits for a decision (or one is on its way already): see `perdure show`"
    raise NothingToDecideError(msg)


def _check_meant(run_id: str, parked: ev.StepParked, since: float) -> None:
    if is_since(parked.at, since):
        return
    msg = (
        f"step {parked.step!r} of run {run_id!r} waits for something else by now: the decision is about its wait since "
        f"{wait_named(since)}, and it waits since {wait_named(parked.at)} ({parked.why}). Nothing was decided. Look at "
        f"it again (perdure show {quoted(run_id)}), and decide about that wait"
    )
    raise NothingToDecideError(msg, since=parked.at)


def _failure(parked: ev.StepParked, fail: str | bool) -> ev.Failure:
    if fail is True and parked.failure is not None:
        return parked.failure
    message = fail if isinstance(fail, str) and fail else f"a person decided that step {parked.step} failed"
    return failure_of(StepFailed(message, step=parked.step, attempts=parked.attempt))
