"""Handlers: what a run lets others call while it goes on.

A *query* handler looks at the run's state and answers; nothing of that is recorded, and nothing may change by it
(see reading.py). An *update* handler may do all that workflow code may. Its call comes as an UpdateAccepted event
and begins a task of the run in a scope of its own; the end of that task is an UpdateCompleted record. So updates
replay as everything else does: at the same place in the history, and with the same op ids.

What a handler's arguments and results are in bytes is told by whoever registers it; the core looks at none.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from perdure.core.continuing import ContinueAs
from perdure.core.events import Checkpointed, Record, UpdateAccepted, UpdateCompleted
from perdure.core.futures import NumberedTask
from perdure.core.loop import WorkflowLoop
from perdure.core.scope import Scope
from perdure.core.unwinding import Suspended
from perdure.errors import UsageError


class QueryHandler(Protocol):
    """Answers questions about the run's state."""

    def answer(self, input: bytes) -> tuple[bytes, Any]:
        """The encoded answer, and the same decoded. Whatever it raises is the asker's."""
        ...


class UpdateHandler(Protocol):
    """Changes the run's state on behalf of a caller."""

    def admit(self, input: bytes) -> None:
        """Raise if the call is to be rejected. Looks only."""
        ...

    def prepare(self, input: bytes) -> Callable[[], Any]:
        """What calls the handler: it returns the handler's value, or an awaitable of it.

        Raises:
            UndecodableError: the arguments can't be read.
        """
        ...

    def ended(
        self, update: str, at: float, value: Any, error: BaseException | None
    ) -> tuple[UpdateCompleted, Sequence[Any]]:
        """The record of a call's end, and what the store does with it: it keeps the caller's answer."""
        ...

    def decode(self, data: bytes) -> Any:
        """A recorded result as the type that the handler declares."""
        ...


class Keeper(Protocol):
    """Sums up what updates have come to, so that a replay needn't begin before it (see runtime/entities.py)."""

    def sum_up(self, number: int, at: float) -> tuple[Checkpointed, Sequence[Any]]:
        """The record of the state after the update of this number, and what the store does with it."""
        ...

    def restore(self, event: Checkpointed) -> None:
        """Begin from such a record."""
        ...


class Passed(dict[str, Any]):
    """What code has dropped, where updates up to a number are over: their operations are dropped, too."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def __contains__(self, op_id: object) -> bool:
        return super().__contains__(op_id) or 0 < update_of(str(op_id)) <= self._number


def update_of(op_id: str) -> int:
    """The number of the update to which an operation belongs, 0 if to none.

    >>> update_of("u12/app.fetch#1"), update_of("u3.1/sleep:1"), update_of("app.fetch#1"), update_of("1/sleep:1")
    (12, 3, 0, 0)
    """
    number = op_id.partition("/")[0].partition(".")[0].removeprefix("u")
    return int(number) if op_id.startswith("u") and "/" in op_id and number.isdigit() else 0


class Run(Protocol):
    """The run that has the handlers."""

    @property
    def loop(self) -> WorkflowLoop: ...
    def write_down(self, record: Record, effects: Sequence[Any] = ...) -> None: ...


class Handlers:
    """The handlers of one run by name, and how many updates it has accepted so far.

    Attributes:
        keeper: sums up each update; they are admitted one at a time then. None: nobody does.
        going: how many updates have begun and not ended.
    """

    __slots__ = ("_accepted", "going", "keeper", "queries", "updates")

    def __init__(self) -> None:
        self.queries: dict[str, QueryHandler] = {}
        self.updates: dict[str, UpdateHandler] = {}
        self._accepted = 0
        self.going = 0
        self.keeper: Keeper | None = None

    def restore(self, event: Checkpointed) -> int:
        """Begin from a record of the keeper's; returns the number of the update that it was made after."""
        assert self.keeper is not None
        self.keeper.restore(event)
        self._accepted = int(event.op.rpartition(":")[2])
        return self._accepted

    def begin(self, run: Run, handler: UpdateHandler, event: UpdateAccepted) -> None:
        """Let an accepted update begin, as a task beside the others.

        Its op ids are `u1/...` for the first update that the run accepted, `u2/...` for the second.

        Raises:
            UndecodableError: its arguments can't be read as what the handler declares today.
        """
        call = handler.prepare(event.input)
        self._accepted += 1
        self.going += 1
        root = run.loop.root
        assert isinstance(root, NumberedTask)
        task = _handle(run, self, handler, event.update, call, self._accepted)
        root.run_context.run(run.loop.create_scoped, task, Scope(f"u{self._accepted}"))


async def _handle(
    run: Run,
    handlers: Handlers,
    handler: UpdateHandler,
    update: str,
    call: Callable[[], Any],
    number: int,
) -> None:
    """One call of an update handler, from its beginning to the record of its end."""
    value: Any = None
    failed: BaseException | None = None
    try:
        value = call()
        if inspect.isawaitable(value):
            value = await value
    except (Suspended, SystemExit, KeyboardInterrupt):
        raise
    except ContinueAs:
        failed = UsageError(
            "an update handler called continue_as(), which ends the workflow function: let the handler set a "
            "variable, and call it there"
        )
    except asyncio.CancelledError as error:
        root = run.loop.root
        if root is None or root.done():
            raise  # the run is ending, and the update with it: its caller is told so
        failed = error
    except BaseException as error:  # noqa: BLE001 - it fails this update, and nothing else
        failed = error
    run.write_down(*handler.ended(update, run.loop.now, value, failed))
    if handlers.keeper is not None:
        run.write_down(*handlers.keeper.sum_up(number, run.loop.now))
    handlers.going -= 1
