"""What a workflow's code asked for in an activation: the closed union of commands.

The machine collects them, the runtime carries them out. `call` is the runtime's own description of the
work (which function, which arguments); the core passes it through without looking inside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from perdure.core.events import Failure
from perdure.core.loop import TimerHandle


class Operation:
    """Something asked for whose outcome is an event: the common part.

    Attributes:
        id: names it within the run, the same on every replay (see core/scope.py).
        asked_at: the run's time when the code asked, wall-clock seconds.
    """

    __slots__ = ("asked_at", "id")

    def __init__(self, id: str, asked_at: float) -> None:
        self.id = id
        self.asked_at = asked_at


class RunStep(Operation):
    """Execute a step until it has an outcome.

    Attributes:
        input: the encoded arguments.
        decode: turns the recorded result into the value the code sees.
        future: what the code awaits.
        failed_attempts: attempts that are recorded as failed already.
        retry_at: the next attempt's earliest time, wall-clock seconds (0 = at once).
        first_at: when the first attempt started, None before.
        noted: a StepStarted event for the current attempt is in the history.
        unfit: why it can't be executed at all.
    """

    __slots__ = (
        "call", "decode", "failed_attempts", "first_at", "future", "input", "last_failure", "name", "noted",
        "retry_at", "unfit",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        asked_at: float,
        *,
        name: str,
        call: Any,
        input: bytes,
        decode: Callable[[bytes], Any],
        future: asyncio.Future[Any],
    ) -> None:
        super().__init__(id, asked_at)
        self.name = name
        self.call = call
        self.input = input
        self.decode = decode
        self.future = future
        self.failed_attempts = 0
        self.retry_at = 0.0
        self.first_at: float | None = None
        self.last_failure: Failure | None = None
        self.noted = False
        self.unfit: Exception | None = None


class StartTimer(Operation):
    """Record a TimerFired event once the wall clock has reached `due`."""

    __slots__ = ("due", "handle", "noted", "number")

    def __init__(self, id: str, asked_at: float, handle: TimerHandle, number: int) -> None:
        super().__init__(id, asked_at)
        self.handle = handle
        self.due = handle.when()
        self.number = number  #: timers of one moment fire in the order in which they were made
        self.noted = False


class StartChild(Operation):
    """Create a child run and record ChildStarted with it; later its ChildEnded arrives as mail.

    Attributes:
        started, ended: what the code awaits; `started` is None if nobody waits for the start.
    """

    __slots__ = ("call", "decode", "ended", "input", "on_parent_close", "recorded", "run_id", "started", "workflow")

    def __init__(
        self,
        id: str,
        asked_at: float,
        *,
        run_id: str,
        workflow: str,
        call: Any,
        input: bytes,
        on_parent_close: str,
        decode: Callable[[bytes], Any],
        started: asyncio.Future[Any] | None,
        ended: asyncio.Future[Any],
    ) -> None:
        super().__init__(id, asked_at)
        self.run_id = run_id
        self.workflow = workflow
        self.call = call
        self.input = input
        self.on_parent_close = on_parent_close
        self.decode = decode
        self.started = started
        self.ended = ended
        self.recorded = False


class CancelOperation:
    """The code doesn't wait for this operation any more: stop the step, forget the timer, cancel the child."""

    __slots__ = ("operation",)

    def __init__(self, operation: RunStep | StartTimer | StartChild) -> None:
        self.operation = operation


class Ending(Enum):
    """How the workflow function ended."""

    RETURNED = "returned"
    RAISED = "raised"
    CANCELLED = "cancelled"


class Finish:
    """The workflow's code is done: record the run's outcome."""

    __slots__ = ("ending", "error", "value")

    def __init__(self, ending: Ending, value: Any = None, error: BaseException | None = None) -> None:
        self.ending = ending
        self.value = value
        self.error = error


Command: TypeAlias = RunStep | StartTimer | StartChild | CancelOperation | Finish
