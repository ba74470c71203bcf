"""Child runs, started by workflow code that goes on meanwhile. Outside of any run they are plain tasks."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, Literal, TypeVar, cast

from perdure.api.call import Call, ChildOptions, WorkflowCall, current_machine, plain_task
from perdure.api.context import run_machine
from perdure.api.messages import send
from perdure.core.commands import StartChild
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.errors import UsageError
from perdure.runtime.queues import Queue, checked_key, checked_priority, queue_name
from perdure.runtime.runs import check_run_id
from perdure.storage.chance import chance

R = TypeVar("R")


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
            run_machine("cancelling a child").cancel_child(self._child)
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
    queue: str | Queue | None = None,
    key: str | None = None,
    priority: int = 0,
    on_parent_close: Literal["cancel", "abandon", "terminate"] = "cancel",
) -> ChildHandle[R]:
    """Start a child run and go on without waiting for it.

    Args:
        call: the workflow to run.
        id: the child's run id; made from the parent's by default.
        queue: where it runs; the parent's queue by default.
        key, priority: what its queue may go by, see `Queue`.
        on_parent_close: what happens to it when the parent ends first.

    Returns:
        The child's handle, once the child durably exists.

    Raises:
        UsageError: it isn't a call of a workflow, or an argument is out of range.

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
    options = ChildOptions(
        None if queue is None else queue_name(queue), checked_key(key, "key"), checked_priority(priority)
    )
    machine = current_machine()
    if machine is None:
        return ChildHandle(id or f"plain-{chance.uuid4().hex[:12]}", plain_task(call))
    loop = machine.loop
    assert isinstance(loop, WorkflowLoop)
    child = call.start_in(
        machine,
        loop.scope().operation(call.name),
        run_id=id,
        options=options,
        on_parent_close=on_parent_close,
        announce=True,
    )
    await _Started(machine, child)
    return ChildHandle(child.run_id, child)
