"""One attempt of one step: what its executor, its run and its heartbeats know of each other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from perdure.core import events as ev
from perdure.core.budgets import Lack, Shortage
from perdure.core.commands import RunStep
from perdure.core.finding import fingerprint
from perdure.errors import OutcomeUnknown
from perdure.runtime.definitions import StepDefinition, StepOptions
from perdure.runtime.outbox import Outlet
from perdure.runtime.stepcontext import StepInfo
from perdure.storage.effects import Effect


class StepCall(Protocol):
    """What a step's Call tells its executor."""

    @property
    def definition(self) -> StepDefinition: ...
    @property
    def options(self) -> StepOptions: ...
    def arguments(self, input: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies of the arguments, so that what a step does to them isn't seen by the workflow."""
        ...


class OpenWork(Protocol):
    """The table of a run's attempts."""

    def attempt_over(self, operation: RunStep) -> None: ...


class Log(Protocol):
    """Where outcomes become durable, many at once.

    Attributes:
        hurried: what is recorded now needn't wait for others, and `hurry()` follows.
    """

    hurried: bool

    def hurry(self) -> None:
        """Offer what was recorded."""
        ...


class Reporter(Protocol):
    """The errand that an attempt is, of which another run hears."""

    def report(self, attempt: Attempt, error: BaseException) -> None:
        """It has raised something; what follows from that is decided there."""
        ...


class Recorder(Protocol):
    """The run that a step belongs to, or the errand that was sent for it."""

    @property
    def id(self) -> str: ...
    @property
    def run(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def work(self) -> OpenWork: ...
    @property
    def keys(self) -> int: ...
    @property
    def keys_of(self) -> str | None: ...
    @property
    def known_as(self) -> str:
        """The id of the run that the step belongs to."""
        ...

    @property
    def streams_of(self) -> int | None:
        """Key of the run that the step belongs to, if that isn't this one."""
        ...

    @property
    def quiet(self) -> bool:
        """What it publishes isn't published: it is counterfactual."""
        ...

    @property
    def reporter(self) -> Reporter | None: ...
    def now(self) -> float:
        """The wall clock's time, or that of the newest event if the clock was set back."""
        ...

    def record(self, event: ev.Event, value: Any = ...) -> None: ...
    def add_effect(self, effect: Effect) -> None: ...
    def flush(self) -> None: ...


class Encoded(msgspec.Struct, frozen=True):
    """A result that was encoded, and checked, in the step's process."""

    data: bytes


class NotBegun(Exception):
    """An attempt's body didn't begin, and nothing has come of it."""


class TooLate(NotBegun):
    """An attempt's permission no longer held when its body was to begin: it has to ask again."""


class NoMoney(NotBegun):
    """A budget has no money for an attempt, which therefore doesn't begin.

    Attributes:
        shortage: what the store has said.
        again_at: when the step is to ask again, wall-clock seconds; None = when a person has made room.
    """

    def __init__(self, shortage: Shortage, again_at: float | None) -> None:
        super().__init__(shortage.why)
        self.shortage = shortage
        self.again_at = again_at

    @property
    def fails(self) -> bool:
        """Whether the step fails by it. Not before it's known that there is no money: who is only crowded out waits."""
        return self.shortage.action == "fail" and self.shortage.lack is not Lack.CROWDED


class Pass(Protocol):
    """A permission of rate limits to begin.

    Attributes:
        limits: those that gave it.
    """

    limits: tuple[Any, ...]

    def void(self, now: float) -> bool:
        """Whether it holds no longer; from any thread."""
        ...

    def until(self) -> float:
        """How long it holds, wall-clock seconds."""
        ...

    def names(self) -> tuple[str, ...]:
        """The limits that gave it."""
        ...

    def settle_here(self, name: str, used: Mapping[str, int]) -> None:
        """What was used of a limit, told in the event loop."""
        ...


class Attempt(msgspec.Struct, eq=False):
    """One attempt of one step. Once `dropped`, its end is no event any more; once `abandoned`, it is the last.

    Attributes:
        begun: set when the attempt's start is durable; only steps that wait for that have one.
        start: that start, once it is on its way. A note that it has begun may be before it, and brings nothing along.
        starved: it was cut off because its heartbeats had stopped.
        in_thread: its body is executing in a thread, which nothing can interrupt.
        permission: to begin, of the rate limits that its step has; None without, and before it has one.
        waited: it asked for that at a moment which it had been told.
        unbegun: called if its task is cancelled before it has begun, and so can't tell of its end by itself.
        outlet: where what it puts into streams goes; only attempts that put something there have one.
        listed: its run knows of it; of one that is over as soon as it has begun it needn't.
    """

    run: Recorder
    operation: RunStep
    info: StepInfo
    started_at: float
    future: asyncio.Future[Any] | None = None
    dropped: bool = False
    abandoned: bool = False
    over: bool = False
    begun: asyncio.Future[None] | None = None
    start: ev.StepStarted | None = None
    starved: bool = False
    in_thread: bool = False
    outlet: Outlet | None = None
    permission: Pass | None = None
    waited: bool = False
    unbegun: Callable[[Attempt], None] | None = None
    listed: bool = False

    @property
    def beginning(self) -> bool:
        """It waits for its start to be durable."""
        return self.begun is not None and not self.begun.done()

    def cancel(self) -> None:
        """Nobody waits for it any more: interrupt an async step, tell a sync one."""
        self.dropped = self.info.cancelled = True
        future = self.future
        if future is None:
            return
        if isinstance(future, asyncio.Task) and self.unbegun is not None and _unbegun(future):
            future.add_done_callback(lambda _: None if self.unbegun is None else self.unbegun(self))
        future.cancel()


def _unbegun(task: asyncio.Task[Any]) -> bool:
    """Whether a task hasn't had its first turn: once cancelled it won't execute a line, not even a `finally`."""
    code: Any = task.get_coro()
    return inspect.getcoroutinestate(code) == inspect.CORO_CREATED


def recorded_input(operation: RunStep) -> tuple[bytes | None, bytes | None]:
    """What the history keeps of a step's input: all of it if it is small, else its fingerprint."""
    if operation.unfit is not None:
        return None, None  # there is none, and code that encodes without the checks mustn't be held to it
    given = operation.input
    if len(given) <= operation.call.options.record_inputs:
        return given, None
    return None, fingerprint(given)


def parks(options: StepOptions, error: BaseException) -> bool:
    """Whether a step whose attempts are used up waits for a person instead of failing."""
    return options.retry.on_exhausted == "block" or isinstance(error, OutcomeUnknown)
