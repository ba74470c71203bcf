"""Functions for use inside runs. Outside of any run they do the plain thing.

children.py starts child runs, and insidestep.py is for steps.
"""

from __future__ import annotations

import asyncio
import logging
import uuid as _uuid
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from perdure.api.call import Call, WorkflowCall, current_machine
from perdure.core.continuing import ContinueAs
from perdure.core.machine import Machine
from perdure.core.retry import seconds as _seconds
from perdure.errors import UsageError
from perdure.runtime.stepcontext import current_step
from perdure.storage.chance import chance


class RunContext:
    """The run whose code is executing, from `info()`.

    Attributes:
        id: the run's id.
        workflow: the workflow's durable name.
        started_at: when it was created.
        parent: the parent run's id, None for a top-level run.
        replaying: the code is being replayed: what it does now, it did before.
        schedule: the schedule that started it, None if none did.
        slot: the moment for which that schedule started it; None if it was triggered by hand.
        generation: which run of this id it is, from 1; `continue_as` begins the next.
    """

    __slots__ = ("generation", "id", "parent", "replaying", "schedule", "slot", "started_at", "workflow")

    def __init__(self, machine: Machine) -> None:
        assert machine.started is not None
        self.id = machine.run_id
        self.workflow = machine.workflow
        self.started_at = datetime.fromtimestamp(machine.started.at, UTC)
        self.parent = machine.started.parent
        self.replaying = machine.replaying
        self.generation = machine.started.generation
        self.schedule = machine.started.schedule
        slot = machine.started.slot
        self.slot = None if slot is None else datetime.fromtimestamp(slot, UTC)

    def __repr__(self) -> str:
        return f"RunContext(id={self.id!r}, workflow={self.workflow!r})"


def run_machine(what: str) -> Machine:
    """The machine of the run whose code is executing. Raises UsageError outside of workflow code."""
    machine = current_machine()
    if machine is None:
        msg = f"{what} works only in workflow code, while a run executes it"
        raise UsageError(msg)
    return machine


# -- time and chance ----------------------------------------------------------------------------------


def now() -> datetime:
    """The current time, in UTC. Inside a run it is the time of the event that woke it, the same on replay."""
    machine = current_machine()
    return datetime.now(UTC) if machine is None else datetime.fromtimestamp(machine.loop.now, UTC)


def random() -> float:
    """A random number in [0, 1). Inside a run the same on replay."""
    machine = current_machine()
    return chance.random() if machine is None else machine.random().random()


def uuid4() -> _uuid.UUID:
    """A random UUID. Inside a run the same on replay."""
    machine = current_machine()
    return chance.uuid4() if machine is None else _uuid.UUID(int=machine.random().getrandbits(128), version=4)


async def sleep(seconds: float | timedelta) -> None:
    """Wait. Inside a run this is a durable timer, as `asyncio.sleep` is, too.

    Args:
        seconds: a number of seconds >= 0, or a timedelta.
    """
    await asyncio.sleep(_seconds(seconds, "sleep()"))


async def sleep_until(moment: datetime) -> None:
    """Wait until a moment; not at all if it has passed.

    Args:
        moment: with a time zone.

    Raises:
        UsageError: it has no time zone, and so could mean several moments.
    """
    if moment.tzinfo is None:
        msg = f"sleep_until({moment!r}): give the moment a time zone, such as datetime(..., tzinfo=UTC)"
        raise UsageError(msg)
    await asyncio.sleep(max(0.0, moment.timestamp() - now().timestamp()))


# -- the run ------------------------------------------------------------------------------------------


def info() -> RunContext:
    """The run whose code is executing.

    Raises:
        UsageError: outside of workflow code.
    """
    return RunContext(run_machine("perdure.info()"))


def continue_as(call: Call[Any]) -> NoReturn:
    """End this run and go on as its next generation: under the same run id, with this call and an empty history.

    For runs that live long: a history grows with everything that happens, and each replay reads all of it. One
    commit ends the one and starts the other. Messages that no code has received go over, in their order, and so
    does a cancellation that hasn't reached the code. Handles follow; a parent hears only of the last generation's
    end. Child runs that are still going are treated by their `on_parent_close`.

    Never returns. What it raises passes `except Exception`, and runs `finally` blocks; it counts when it leaves
    the workflow function.

    Args:
        call: the workflow to go on with, most often the same one.

    Raises:
        UsageError: it isn't a call of a workflow, or a step calls this.
        NotSerializableError: its arguments can't be recorded.

    Example:
        >>> @workflow  # doctest: +SKIP
        ... async def counts(total: int) -> None:
        ...     for _ in range(1000):
        ...         total += await perdure.receive("add", int)
        ...     perdure.continue_as(counts(total))
    """
    if not isinstance(call, WorkflowCall):
        if isinstance(call, Call):
            call.close()
        msg = f"continue_as() takes the call of a workflow, as in continue_as(counts(total)); got {call!r}"
        raise UsageError(msg)
    call.mark_used()
    machine = current_machine()
    if machine is None and current_step.get() is not None:
        msg = "continue_as() works only in workflow code: let the step return, and call it there"
        raise UsageError(msg)
    data = b"" if machine is None else call.input(machine.max_payload)
    raise ContinueAs(call, call.name, data)


# -- the log ------------------------------------------------------------------------------------------


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger that is silent while a run is replayed, and tells which run (and step) speaks."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        machine = current_machine()
        if machine is not None and (machine.replaying or machine.inert):
            return False
        return self.logger.isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        machine, step = current_machine(), current_step.get()
        extra: dict[str, Any] = dict(kwargs.get("extra") or {})
        if machine is not None:
            extra |= {"run_id": machine.run_id, "workflow": machine.workflow}
        elif step is not None:
            extra |= {"run_id": step.run_id, "step_id": step.step_id, "attempt": step.attempt}
        kwargs["extra"] = extra
        return msg, kwargs


#: Use it like any logger; the records carry `run_id`, `workflow`, `step_id` and `attempt` where they apply.
log = RunLogger(logging.getLogger("perdure.run"))
