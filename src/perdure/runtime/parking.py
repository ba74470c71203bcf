"""Steps that wait for a person: what the person is told, and what comes back.

A parked step stops only the code that awaits it. When nothing else of its run executes, the run shows as
blocked, with the text made here; mail and timers wake it as ever. The decision comes by mail, as the event
that it amounts to.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.machine import Machine
from perdure.core.why import todo_raise
from perdure.errors import UndecodableError
from perdure.runtime.host import Host
from perdure.runtime.withholding import only_this, why_refused

logger = logging.getLogger("perdure.budgets")

#: What a person's decision about a step amounts to.
DECISIONS = frozenset({ev.StepCompleted, ev.StepFailed, ev.StepRerun})


class Run(Protocol):
    """The run's driver."""

    id: str

    @property
    def host(self) -> Host[Any]: ...


def announce(run: Run, operation: RunStep) -> None:
    """Tell the log that a step waits. That a budget is used up is nothing unusual."""
    told = why_parked(run.id, [operation])
    if operation.parked is not None and operation.parked.budget is not None:
        logger.info("run %s waits for money: %s", run.id, told, extra={"run_id": run.id})
    else:
        run.host.blocked(run, told)


def asks_again_at(operation: RunStep) -> float | None:
    """When a step that waits for a budget asks again by itself, wall-clock seconds; None if it doesn't."""
    budget = None if operation.parked is None else operation.parked.budget
    return None if budget is None else budget.until


def asks_again(operation: RunStep, now: float) -> bool:
    """Whether a step that waits for a budget is to ask again now: when it is time, and when its run is loaded.

    What would wake it may be in another database, if the run was moved.
    """
    if operation.parked is None or operation.parked.budget is None:
        return False
    until = asks_again_at(operation)
    return operation.recalled or (until is not None and until <= now)


def why_parked(run_id: str, steps: Iterable[RunStep]) -> str:
    """Why a run is blocked of which these steps wait for a person, and what that person can do."""
    parked = [step.parked for step in steps if step.parked is not None]
    unpaid: dict[tuple[str, ...], list[ev.StepParked]] = {}
    for each in parked:
        if (budget := each.budget) is not None:
            unpaid.setdefault((budget.name, budget.owner, budget.day), []).append(each)
    told = [_why(run_id, each) for each in parked if each.budget is None]
    return "\n\n".join([*told, *(_unpaid(run_id, alike) for alike in unpaid.values())])


def _why(run_id: str, parked: ev.StepParked) -> str:
    if parked.refused:
        return why_refused(run_id, parked)
    began = datetime.fromtimestamp(parked.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    started = f"step {parked.step!r} was started at {began} (attempt {parked.attempt})"
    if parked.unknown:
        told = (
            f"outcome unknown: {started}, and {parked.why}. It isn't run again by itself, since it may have "
            "happened. Find out whether it did, then say so:"
        )
        again = "it didn't happen: run it again"
    else:
        told = f"attempts used up: {started}: {parked.why}. Mend the cause, then say how to go on:"
        again = "run it again, with fresh attempts"
    command = f"  perdure resolve {shlex.quote(run_id)} {shlex.quote(parked.step)}"
    return (
        f"{told}\n{command} --result JSON      it is done, with this result"
        f"\n{command} --rerun            {again}"
        f"\n{command} --fail [MESSAGE]   let it fail in the workflow"
        f"\n{only_this(parked)}"
    )


def _unpaid(run_id: str, alike: Sequence[ev.StepParked]) -> str:
    """The same of steps that wait for the same money."""
    parked, budget = alike[0], alike[0].budget
    assert budget is not None
    more = f" (nor do {len(alike) - 1} more)" if len(alike) > 1 else ""
    told = f"no money: step {parked.step!r} doesn't begin{more}, since {parked.why}."
    if budget.until is not None:
        until = datetime.fromtimestamp(budget.until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        told += f" It asks again at {until}. Or go on earlier:"
    else:
        told += " It goes on when a person has decided:"
    command = f"  perdure resolve {shlex.quote(run_id)} {shlex.quote(parked.step)}"
    return (
        f"{told}\n  {todo_raise(budget)}   give it more"
        f"\n{command} --rerun            let this one call go beyond it"
        f"\n{command} --result JSON      do without the call, with this result"
        f"\n{command} --fail [MESSAGE]   let it fail in the workflow"
    )


def too_late(machine: Machine, event: ev.Event) -> bool:
    """Whether mail is a decision about a step that doesn't wait for one (any more): somebody else's came first.

    Two who look at the same time both see that it waits. The first word counts; in the history the second one would
    look like another outcome of the step, or like leave to begin again what has begun.
    """
    if not isinstance(event, ev.StepCompleted | ev.StepFailed | ev.StepRerun) or event.decision is None:
        return False
    operation = machine.operations.get(event.step)
    if not isinstance(operation, RunStep) or operation.parked is None:
        return True
    if operation.decided is operation.parked:
        return True
    if event.decision.since not in (None, operation.parked.at):
        return True
    # what is said of an earlier attempt says nothing of the one that has followed meanwhile
    return event.started_at is not None and event.started_at != operation.parked.started_at


def goes_on(machine: Machine, event: ev.StepRerun) -> bool:
    """Whether a step that waits is to go on by this, which isn't fed yet."""
    operation = machine.operations.get(event.step)
    if not isinstance(operation, RunStep) or operation.parked is None:
        return False
    return operation.parked.budget is not None or not event.raised


def admitted(machine: Machine, event: ev.Event, now: float) -> ev.Event:
    """A decision that counts. A result that the code can't read doesn't: the step goes on waiting, and tells that.

    In the history it would block every replay of the run, so it is looked at before.
    """
    if not isinstance(event, ev.StepCompleted | ev.StepFailed | ev.StepRerun) or event.decision is None:
        return event
    operation = machine.operations.get(event.step)
    if not isinstance(operation, RunStep) or operation.parked is None:
        return event
    if isinstance(event, ev.StepCompleted):
        try:
            operation.decode(event.result)
        except UndecodableError as error:
            given = event.result.decode(errors="replace")[:200]
            why = f"{operation.parked.why}. The result {given} was given for it, and doesn't fit: "
            why += str(error.__cause__ or error)
            return msgspec.structs.replace(operation.parked, at=now, why=why)
    operation.decided = operation.parked
    return event
