"""Errands, from the side of the worker that carries them out.

An errand is a run like any other to the store: it stands in a queue, is claimed, has an owner and an epoch, and is
taken over when its worker dies. Its workflow is named after the step, and its only code is to await that step. What
comes of the attempt isn't recorded here: it ends the errand, in one append that puts the report into the mail of
the run that has sent it.

Workers tell of the steps that they would carry out, as of workflows. That are those which they have seen with a
queue, and those that others have sent in vain.
"""

from __future__ import annotations

from asyncio.events import _get_running_loop
from collections.abc import Coroutine, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from perdure.codec.events import encode_event
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.commands import RunStep
from perdure.core.errands import PREFIX, errand_workflow, step_of
from perdure.core.finding import UNSET
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.core.namespaces import short
from perdure.core.status import Status
from perdure.runtime.attempt import Attempt
from perdure.runtime.definitions import (
    StepDefinition,
    StepOptions,
    WorkflowDefinition,
    register_workflow,
    sent_to,
    step_named,
    workflow_named,
)
from perdure.runtime.driver import Driver
from perdure.runtime.endings import Last
from perdure.runtime.errand import Errand, decode_errand, failed
from perdure.runtime.heartbeats import Pulse
from perdure.runtime.host import Host
from perdure.storage.effects import Effect
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow
from perdure.storage.streams import Settle, Supersede

#: How many steps that others have sent in vain are looked up at a time.
MISSED_MAX = 100

_DONE = b"null"


class ErrandCall:
    """The call of a step that another run has asked for.

    Attributes:
        options: what is asked of this attempt; when to try again isn't decided here.
    """

    stubbed = False

    def __init__(self, definition: StepDefinition, errand: Errand) -> None:
        self.definition = definition
        self.errand = errand
        self.options: StepOptions = replace(
            definition.options,
            queue=None,
            key=None,
            timeout=errand.timeout,
            heartbeat_timeout=errand.heartbeat_timeout,
            deadline=errand.deadline,
            on_cancel="try",
            limits=tuple(sent.limited() for sent in errand.limits),
        )
        # read at once, so that code which it doesn't fit blocks the errand instead of failing the step
        self._copies: tuple[tuple[Any, ...], dict[str, Any]] | None = definition.arguments.decode(
            errand.input
        )

    def arguments(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the arguments."""
        copies, self._copies = self._copies, None
        return self.definition.arguments.decode(input) if copies is None else copies

    def __await__(self) -> Generator[Any, Any, Any]:
        loop = _get_running_loop()
        assert isinstance(loop, WorkflowLoop)
        machine: Machine = loop.owner
        errand, definition = self.errand, self.definition
        wait = machine.step(errand.step, definition.name, self, errand.input, definition.result.decode)
        operation = machine.operations.get(errand.step)
        if isinstance(operation, RunStep):
            operation.failed_attempts = errand.attempt - 1
            operation.first_at = errand.first_at
            if errand.detail is not None:
                operation.pulse = Pulse(errand.detail, errand.detail_at, saved=True)
        return wait


async def _carry_out(call: ErrandCall) -> None:
    await call


@dataclass(frozen=True, slots=True)
class ErrandDefinition(WorkflowDefinition):
    """The workflow of a step's errands."""

    def begin(self, started: ev.RunStarted) -> Coroutine[Any, Any, Any]:
        step = step_named(step_of(self.name) or "")  # as it is now: in a notebook it may be defined again
        assert step is not None, "what is offered is defined"
        return _carry_out(ErrandCall(step, decode_errand(started.input)))


def offer(step: StepDefinition, queue: str) -> None:
    """Let this process carry out errands of a step that are sent to this queue."""
    name = errand_workflow(step.name)
    sent_to(name, queue)
    if workflow_named(name) is not None:
        return
    register_workflow(
        ErrandDefinition(
            name=name,
            function=step.function,
            arguments=step.arguments,
            result=ValueCodec[Any](None, f"result of an errand of step {step.name}"),
            guard=False,
        )
    )


async def offer_missed(store: Store, queues: Sequence[str]) -> None:
    """Offer the steps that others have sent into these queues, and that no worker has offered so far."""
    for queue, workflow in await store.unbegun.missed(queues, PREFIX, limit=MISSED_MAX):
        step = step_named(step_of(workflow) or "")
        if step is not None:
            offer(step, queue)


class ErrandDriver(Driver):
    """Drives an errand: one attempt of a step that belongs to another run."""

    __slots__ = ("_emitted", "_report", "sender")

    carries_errand = True

    def __init__(
        self, host: Host[Driver], row: RunRow, definition: WorkflowDefinition, machine: Machine
    ) -> None:
        super().__init__(host, row, definition, machine)
        self.sender = row.parent
        self._emitted = False
        self._report: ev.ErrandEnded | None = None

    @property
    def errand(self) -> Errand:
        assert self.machine.started is not None
        return decode_errand(self.machine.started.input)

    # -- what the step knows of itself ----------------------------------------------------------------

    def _met(self, started: ev.RunStarted) -> None:
        errand = decode_errand(started.input)
        self.known_as, self.keys, self.keys_of = errand.run, errand.keys, errand.keys_of

    @property
    def streams_of(self) -> int | None:
        return self.sender

    @property
    def quiet(self) -> bool:
        return self.errand.quiet

    @property
    def reporter(self) -> ErrandDriver:
        return self

    # -- what comes of it -----------------------------------------------------------------------------

    def record(self, event: ev.Event, value: Any = UNSET) -> None:
        match event:
            case ev.StepCompleted():
                report = self._ended(event.attempt, event.started_at)
                self._tell(msgspec.structs.replace(report, result=event.result))
            case ev.StepFailed():  # nothing was executed
                report = self._ended(event.attempt, event.started_at)
                self._tell(msgspec.structs.replace(report, failure=event.failure, gives_up=True))
            case ev.StepParked(budget=None):
                report = self._ended(event.attempt, event.started_at)
                self._tell(msgspec.structs.replace(report, doubt=event.why, failure=event.failure))
            case _:
                super().record(event, value)

    def report(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt has raised something."""
        self._tell(failed(self._ended(attempt.info.attempt, attempt.started_at, attempt), error))

    def add_effect(self, effect: Effect) -> None:
        if isinstance(effect, Settle | Supersede):
            self._emitted = True  # whether these items count is decided where the step belongs
        else:
            super().add_effect(effect)

    def told_to_parent(self, last: Last, parent_op: str) -> bytes:
        if self._report is None:
            return super().told_to_parent(last, parent_op)
        return encode_event(self._report)

    def _ended(self, attempt: int, started_at: float, body: Attempt | None = None) -> ev.ErrandEnded:
        errand = self.errand
        operation = self.machine.operations.get(errand.step)
        pulse: Pulse | None = operation.pulse if isinstance(operation, RunStep) else None
        return ev.ErrandEnded(
            at=self.now(),
            step=errand.step,
            run=short(self.id),
            attempt=attempt,
            started_at=started_at,
            emitted=self._emitted or (body is not None and body.outlet is not None),
            detail=None if pulse is None else pulse.data,
            detail_at=0.0 if pulse is None else pulse.at,
        )

    def _tell(self, report: ev.ErrandEnded) -> None:
        if self._report is None and not self.gone and self._ending is None:
            self._report = report
            self.end((Status.COMPLETED, ev.RunCompleted(report.at, _DONE)))
            self.flush()
