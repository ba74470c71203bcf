"""Counterfactual runs act on nobody: what would have an effect outside is withheld.

Such a run is a fork that tries something on what has happened: another prompt, say. What was recorded is taken over
(core/reuse.py), reads execute, and what writes doesn't:

    a step that reads (its effect class, or it returns what a model's client does)   executes
    a step that writes, or doesn't say         its stub, a given result or a function, takes its place; else it is
                                               refused: it waits for a person, or raises EffectRefused
    a message to a run outside of the family   is recorded as withheld
    an event that code or a step publishes     is recorded as withheld; of steps nothing is kept
    a child run                                is started, and is counterfactual, too

Whatever is found out here follows from the run's first event and from the code, so it is the same after a crash.
"""

from __future__ import annotations

import dataclasses
import inspect
import shlex
from typing import Any, Literal, Protocol

from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.commands import RunStep, SendMessage
from perdure.core.donor import Counterfactual
from perdure.core.edits import first_named
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.core.namespaces import short
from perdure.core.reuse import Reuse
from perdure.core.timeline import wait_named
from perdure.errors import EffectRefused, UndecodableError
from perdure.runtime.attempt import recorded_input
from perdure.runtime.definitions import EffectClass, StepDefinition, StepOptions
from perdure.storage.records import RunRow

#: What becomes of a step in a counterfactual run.
Fate = Literal["executes", "stubbed", "refused"]


class Run(Protocol):
    """The driver of a run."""

    id: str
    machine: Machine
    donor: Reuse | None

    def now(self) -> float: ...
    def record(self, event: ev.Event, value: Any = ...) -> None: ...


def counterfactual(machine: Machine) -> Counterfactual | None:
    """How a run withholds its effects; None if it acts."""
    started = machine.started
    return None if started is None or started.donor is None else started.donor.counterfactual


def effect_of(definition: StepDefinition, options: StepOptions) -> EffectClass:
    """The effect class of a step. What a model answers changes nothing; what doesn't say may do anything."""
    if options.effect is not None:
        return options.effect
    return "read" if definition.returns_response is True else "write"


class Stub:
    """The call of a step that is its stub: a function that is called with the step's arguments."""

    stubbed = True

    def __init__(self, call: Any) -> None:
        real: StepDefinition = call.definition
        function = real.stub
        assert function is not None
        self.definition = dataclasses.replace(
            real,
            function=function,
            run=function,
            is_async=inspect.iscoroutinefunction(function),
            once=False,
            verify=None,
            process=False,
            returns_response=False,
        )
        self.options: StepOptions = dataclasses.replace(call.options, queue=None, limits=(), spends=False)
        self.arguments = call.arguments


def withheld(run: Run, operation: RunStep) -> bool:
    """Whether a step that is about to begin isn't executed, and what takes its place is recorded.

    A stub that is a function is executed like a step: it is put into the operation.
    """
    how = counterfactual(run.machine)
    if how is None or operation.unfit is not None or operation.call.stubbed:
        return False
    call = operation.call
    if effect_of(call.definition, call.options) == "read":
        return False
    given = first_named(how.stubs, operation.id)
    if given is None and call.definition.stub is not None:
        operation.call = Stub(call)
        operation.elsewhere = False
        return False
    misfit = ""
    for result in _results(given, run.donor, operation.id):
        try:
            value = operation.decode(result)
        except UndecodableError as error:
            shown = result.decode(errors="replace")[:100]
            misfit = f". The stub {shown} doesn't fit: {error.__cause__ or error}"
            continue
        _stand_in(run, operation, result, value)
        return True
    _refuse(run, operation, misfit, fails=how.fails)
    return True


def fate(how: Counterfactual | None, donor: Reuse, operation: RunStep) -> Fate:
    """What is going to become of a step that a run asks for."""
    definition: StepDefinition = operation.call.definition
    if how is None or effect_of(definition, operation.call.options) == "read":
        return "executes"
    given = first_named(how.stubs, operation.id)
    stubbed = definition.stub is not None or bool(_results(given, donor, operation.id))
    return "stubbed" if stubbed else "refused"


def _results(given: bytes | None, donor: Reuse | None, op_id: str) -> list[bytes]:
    """The encoded results that may stand in for a step, the best first."""
    if given is not None:
        return [given]
    return [] if donor is None else donor.recorded(op_id)


def _stand_in(run: Run, operation: RunStep, result: bytes, value: Any = UNSET) -> None:
    given, digest = recorded_input(operation)
    now = run.now()
    event = ev.StepCompleted(now, operation.id, 1, now, result, given, digest, stubbed=True)
    run.record(event, value)


def _refuse(run: Run, operation: RunStep, misfit: str, *, fails: bool) -> None:
    told = (
        f"step {operation.id!r} would have an effect outside, and run {short(run.id)!r} is a counterfactual "
        f"fork, which has none: nothing was done{misfit}"
    )
    error = EffectRefused(
        f'{told}. Fork it with stubs={{{operation.name!r}: ...}} or effects="stub", or declare the step as '
        'effect="read" if it changes nothing'
    )
    given, digest = recorded_input(operation)
    now, failure = run.now(), failure_of(error)
    if fails:
        run.record(ev.StepFailed(now, operation.id, 0, now, failure, given, digest))
    else:
        run.record(
            ev.StepParked(
                now,
                operation.id,
                0,
                now,
                told,
                failure=failure,
                input=given,
                fingerprint=digest,
                refused=True,
            )
        )


def why_refused(run_id: str, parked: ev.StepParked) -> str:
    """What a person is told of a step that was refused, and what they can do."""
    command = f"  perdure resolve {shlex.quote(run_id)} {shlex.quote(parked.step)}"
    return (
        f"effect refused: {parked.why}. Say what it would have come to, and the run goes on:"
        f"\n{command} --result JSON      as if it had this result"
        f"\n{command} --fail [MESSAGE]   as if it had failed"
        f"\n{only_this(parked)}"
    )


def only_this(parked: ev.StepParked) -> str:
    """How to decide about this wait and no later one."""
    return f"With --since {wait_named(parked.at)} it counts for this wait only."


def message_reaches(run: Run, message: SendMessage, receiver: RunRow | None) -> bool:
    """Whether what a run's code sends is delivered: of a counterfactual run, only within its family."""
    if counterfactual(run.machine) is None:
        return True
    started = run.machine.started
    assert started is not None
    return message.to in (short(run.id), started.parent) or (
        receiver is not None and receiver.parent is not None and receiver.parent_id == run.id
    )
