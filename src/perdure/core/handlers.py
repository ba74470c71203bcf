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
from perdure.core.events import Record, UpdateAccepted, UpdateCompleted
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


class Run(Protocol):
    """The run that has the handlers."""

    @property
    def loop(self) -> WorkflowLoop: ...
    def write_down(self, record: Record, effects: Sequence[Any] = ...) -> None: ...


class Handlers:
    """The handlers of one run by name, and how many updates it has accepted so far."""

    __slots__ = ("_accepted", "queries", "updates")

    def __init__(self) -> None:
        self.queries: dict[str, QueryHandler] = {}
        self.updates: dict[str, UpdateHandler] = {}
        self._accepted = 0

    def begin(self, run: Run, handler: UpdateHandler, event: UpdateAccepted) -> None:
        """Let an accepted update begin, as a task beside the others.

        Its op ids are `u1/...` for the first update that the run accepted, `u2/...` for the second.

        Raises:
            UndecodableError: its arguments can't be read as what the handler declares today.
        """
        call = handler.prepare(event.input)
        self._accepted += 1
        root = run.loop.root
        assert isinstance(root, NumberedTask)
        task = _handle(run, handler, event.update, call)
        root.run_context.run(run.loop.create_scoped, task, Scope(f"u{self._accepted}"))


async def _handle(run: Run, handler: UpdateHandler, update: str, call: Callable[[], Any]) -> None:
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
