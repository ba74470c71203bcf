"""Functions for use inside runs and steps. Outside of any run they do the plain thing."""

from __future__ import annotations

import asyncio
import logging
import random as _random
import uuid as _uuid
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, NoReturn, TypeVar, cast

from perdure.api.call import Call, WorkflowCall, current_machine, plain_task
from perdure.api.messages import send
from perdure.core.commands import StartChild
from perdure.core.continuing import ContinueAs
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.core.retry import seconds as _seconds
from perdure.errors import UsageError
from perdure.runtime.runs import check_run_id
from perdure.runtime.stepcontext import StepInfo, current_step

R = TypeVar("R")


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


def _machine(what: str) -> Machine:
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
    return _random.random() if machine is None else machine.random().random()  # noqa: S311 - not for secrets


def uuid4() -> _uuid.UUID:
    """A random UUID. Inside a run the same on replay."""
    machine = current_machine()
    return _uuid.uuid4() if machine is None else _uuid.UUID(int=machine.random().getrandbits(128), version=4)


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
    return RunContext(_machine("perdure.info()"))


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


class ChildHandle(Generic[R]):
    """A child run, from `perdure.start`.

    Attributes:
        id: the child's run id.
    """

    def __init__(self, id: str, child: StartChild | asyncio.Task[R]) -> None:
        self.id = id
        self._child = child

    async def result(self) -> R:
        """Wait for the child's result. Giving up this wait leaves the child alone.

        Raises:
            RunFailed, RunCancelled, RunTerminated: the child ended without one.
        """
        future = self._child.ended if isinstance(self._child, StartChild) else self._child
        return cast("R", await asyncio.shield(future))

    async def send(self, name: str, value: Any) -> None:
        """Send the child a message: durable when this returns, and delivered once. See `perdure.send`.

        Raises:
            RunEndedError: it has ended.
        """
        if not isinstance(self._child, StartChild):
            msg = f"child {self.id!r} runs as a plain function, outside of any run: nothing can be sent to it"
            raise UsageError(msg)
        await send(self.id, name, value)

    async def cancel(self) -> None:
        """Ask the child to cancel."""
        if isinstance(self._child, StartChild):
            _machine("cancelling a child").cancel_child(self._child)
        else:
            self._child.cancel()

    def __repr__(self) -> str:
        return f"<child run {self.id!r}>"


class _Started:
    """Awaits a child's start."""

    def __init__(self, machine: Machine, child: StartChild) -> None:
        self._machine = machine
        self._child = child

    def __await__(self) -> Any:
        return self._machine.wait_started(self._child)


async def start(
    call: Call[R],
    *,
    id: str | None = None,
    queue: str | None = None,
    on_parent_close: Literal["cancel", "abandon", "terminate"] = "cancel",
) -> ChildHandle[R]:
    """Start a child run and go on without waiting for it.

    Args:
        call: the workflow to run.
        id: the child's run id; made from the parent's by default.
        queue: where it runs; the parent's queue by default.
        on_parent_close: what happens to it when the parent ends first.

    Returns:
        The child's handle, once the child durably exists.

    Raises:
        UsageError: it isn't a call of a workflow.

    Example:
        >>> child = await perdure.start(report("tardigrades"))  # doctest: +SKIP
        >>> print(child.id, await child.result())  # doctest: +SKIP
    """
    if not isinstance(call, WorkflowCall):
        call.close()
        msg = f"start() takes the call of a workflow, not {call!r}: await a step, or put it into create_task"
        raise UsageError(msg)
    call.mark_used()
    if on_parent_close not in ("cancel", "abandon", "terminate"):
        msg = f'on_parent_close={on_parent_close!r} must be "cancel", "abandon" or "terminate"'
        raise UsageError(msg)
    if id is not None:
        check_run_id(id)
    machine = current_machine()
    if machine is None:
        return ChildHandle(id or f"plain-{_uuid.uuid4().hex[:12]}", plain_task(call))
    loop = machine.loop
    assert isinstance(loop, WorkflowLoop)
    child = call.start_in(
        machine,
        loop.scope().operation(call.name),
        run_id=id,
        queue=queue,
        on_parent_close=on_parent_close,
        announce=True,
    )
    await _Started(machine, child)
    return ChildHandle(child.run_id, child)


# -- the step -----------------------------------------------------------------------------------------


def step_info() -> StepInfo:
    """The step attempt that is executing.

    Raises:
        UsageError: outside of a step that an engine executes.
    """
    step = current_step.get()
    if step is None or current_machine() is not None:
        msg = "step_info() works only inside a step, while an engine executes it"
        raise UsageError(msg)
    return step


def heartbeat(detail: Any = None) -> None:
    """Give a sign of life from a step, and leave a detail for the next attempt.

    Call it as often as you like, from async and from sync steps. The detail is written about once a second and
    when the attempt fails; the next attempt finds the newest in `step_info().detail`, after a crash as well.
    Outside of an engine it does nothing.

    Args:
        detail: how far the work has come: data that JSON can carry, up to 64 kB. None leaves the last one.

    Raises:
        asyncio.CancelledError: nobody waits for this attempt any more; tidy up and return. In a sync step this
            is how it is interrupted.
        NotSerializableError: the detail can't be recorded.
        UsageError: in workflow code.

    Example:
        >>> for page in range(perdure.step_info().detail or 0, 1000):  # doctest: +SKIP
        ...     load(page)
        ...     perdure.heartbeat(page + 1)
    """
    if current_machine() is not None:
        msg = "heartbeat() works only inside a step: workflow code lives as long as its run"
        raise UsageError(msg)
    step = current_step.get()
    if step is not None:
        step.heartbeat(detail)


def idempotency_key() -> str:
    """A key that is the same for every attempt of this step, and different for every other step.

    Give it to services that take one: a repeat after a crash is then recognised there. Outside of an engine
    it is a fresh random one.
    """
    step = current_step.get()
    return _uuid.uuid4().hex if step is None else step.idempotency_key()


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
