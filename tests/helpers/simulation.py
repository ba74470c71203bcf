"""Runs workflow code on a bare Machine, with a fake world around it, and replays what was recorded.

No engine, store, thread or clock takes part. A `Simulation` plays the runtime: it takes the machine's
commands, lets steps, timers and children end in the order of a virtual clock, and feeds one event after
another. What the code does that can be seen from outside is collected by `see()`.

`check_replay` is the property that matters most in this project: a history replayed as a whole, and from each of
its prefixes with the rest driven live again, gives the same events, operations, result and sights.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import inspect
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from perdure import workflow as _workflow
from perdure.api.call import Call, WorkflowCall, current_machine
from perdure.api.decorators import step
from perdure.api.durable import Workflow
from perdure.codec.events import decode_event, encode_event
from perdure.codec.failures import failure_of, step_exception
from perdure.core import events as ev
from perdure.core.commands import (
    AwaitMessage,
    CancelOperation,
    Ending,
    Finish,
    Operation,
    RunStep,
    StartChild,
    StartTimer,
    WriteDown,
)
from perdure.core.machine import Machine
from perdure.runtime.definitions import workflow_named
from perdure.runtime.outcomes import child_error

START = 1_000_000.0
SEED = bytes(range(16))
MAX_PAYLOAD = 1_000_000


class Boom(Exception):
    """What failing steps raise."""


class Bang(Exception):
    """Another one."""


FAILURES = {"Boom": Boom, "Bang": Bang, "OSError": OSError}


# -- steps whose outcome their arguments say --------------------------------------------------------


@step(name="do")
async def do(label: str, takes: float = 1.0, fails: str = "", tries: int = 1) -> str:
    """Returns its label after `takes` seconds of virtual time, in its `tries`th attempt; or fails."""
    if _Stage.plain:
        await asyncio.sleep(takes * tries + 0.5 * (tries - 1))
    if fails:
        raise FAILURES[fails](label)
    return label


@step(name="other")
async def other(label: str, takes: float = 1.0, fails: str = "", tries: int = 1) -> str:
    """The same under another name."""
    return await do.function(label, takes, fails, tries)  # type: ignore[no-any-return]


@_workflow(name="child")
async def child(label: str, takes: float = 1.0, fails: str = "") -> str:
    """A child run: its code isn't simulated, only its end."""
    if _Stage.plain:
        await asyncio.sleep(takes)
    if fails:
        raise FAILURES[fails](label)
    return label


# -- what can be seen --------------------------------------------------------------------------------


class _Stage:
    sights: list[Any] | None = None
    plain = False  #: steps take their virtual time by themselves


def see(*sight: Any) -> None:
    """Leave a trace that a test can compare. Outside of simulations (and while unwinding) it is nothing."""
    machine = current_machine()
    if _Stage.sights is not None and (_Stage.plain or (machine is not None and not machine.inert)):
        _Stage.sights.append(sight[0] if len(sight) == 1 else sight)


# -- the world ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Nudge:
    """Something that comes from outside at a virtual time: a cancellation, a deadline, a message."""

    at: float
    event: Callable[..., ev.Event] = ev.CancelRequested


def message(at: float, name: str, payload: bytes) -> Nudge:
    """A message that comes at a virtual time."""
    return Nudge(at, partial(ev.MessageReceived, name=name, payload=payload))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run that came to its end, or to a standstill (`ending` is then None)."""

    history: list[ev.Event]
    asked: list[str]  #: op ids in the order in which they were handed out
    sights: list[Any]
    ending: Ending | None
    outcome: Any  #: the value, or the exception as text
    cancelled: list[str]  #: op ids of CancelOperations
    error: BaseException | None = None


class Simulation:
    """Drives one run.

    Args:
        make: the call to run, or a plain function that makes a coroutine.
        nudges: what comes from outside, and when.
        notes: also record the notes that a runtime writes for what takes long.
        limit: most events before the test gives up.
    """

    def __init__(
        self,
        make: Call[Any] | Callable[[], Coroutine[Any, Any, Any]],
        *,
        nudges: Sequence[Nudge] = (),
        notes: bool = True,
        limit: int = 2000,
    ) -> None:
        if isinstance(make, WorkflowCall):
            make.mark_used()
            given = make
            self._make = lambda: given.definition.function(*given.args, **given.kwargs)
            self._name = given.name
        else:
            assert not isinstance(make, Call)
            self._make = make
            self._name = "main"
        self._nudges = nudges
        self._notes = notes
        self._limit = limit
        self.history: list[ev.Event] = []
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.sights: list[Any] = []
        self.finish: Finish | None = None
        self._heap: list[tuple[float, str, int, Callable[[], ev.Event | None]]] = []
        self._number = 0
        self.machine = Machine(
            "run", self._name, lambda started: self._make(), step_exception, child_error, MAX_PAYLOAD
        )

    # -- feeding --------------------------------------------------------------------------------------

    def _see(self, act: Callable[[], None]) -> None:
        before, _Stage.sights = _Stage.sights, self.sights
        try:
            act()
        finally:
            _Stage.sights = before

    def begin(self, event: ev.RunStarted | None = None) -> None:
        started = event or ev.RunStarted(at=START, workflow=self._name, input=b"", seed=SEED)
        self.history.append(started)
        self._see(lambda: self.machine.begin(started, started.at))

    def feed(self, event: ev.Event) -> None:
        """Feed an event as it comes back from the log."""
        event = decode_event(encode_event(event))
        self.history.append(event)
        self._see(lambda: self.machine.feed(event))

    def replay(self, history: Sequence[ev.Event]) -> None:
        self.machine.replaying = True
        first = history[0]
        assert isinstance(first, ev.RunStarted)
        self.begin(first)
        for event in history[1:]:
            self.feed(event)
        self.machine.replaying = False

    # -- the fake runtime -----------------------------------------------------------------------------

    def _at(self, due: float, whose: str, act: Callable[[], ev.Event | None]) -> None:
        """Things of one moment happen in the order of their ids: the same after a replay as without one."""
        self._number += 1
        heapq.heappush(self._heap, (due, whose, self._number, act))

    def go_on(self) -> Recorded:
        """Drive the run live from where it stands, to its end or until nothing can happen any more."""
        outside = ev.CancelRequested | ev.DeadlinePassed | ev.MessageReceived
        had = sum(isinstance(event, outside) for event in self.history)
        for nudge in sorted(self._nudges, key=lambda nudge: nudge.at)[had:]:
            event = nudge.event(at=START + nudge.at)
            self._at(event.at, "\x01", lambda event=event: event)  # type: ignore[misc]
        self._carry_out()
        while self.finish is None and self._heap:
            assert len(self.history) < self._limit, "this run doesn't end"
            due, _, _, act = heapq.heappop(self._heap)
            event = act()
            if event is not None:
                assert due >= self.history[-1].at
                self.feed(event)
                self._carry_out()
        return self.recorded()

    def recorded(self) -> Recorded:
        finish = self.finish
        outcome = None
        if finish is not None:
            outcome = finish.value if finish.error is None else describe(finish.error)
        return Recorded(
            list(self.history),
            list(self.asked),
            list(self.sights),
            None if finish is None else finish.ending,
            outcome,
            list(self.cancelled),
            None if finish is None else finish.error,
        )

    def _carry_out(self) -> None:
        for command in self.machine.take_commands():
            if isinstance(command, Operation):
                self.asked.append(command.id)
            match command:
                case RunStep():
                    self._start_step(command)
                case StartTimer():
                    self._start_timer(command)
                case StartChild():
                    self._start_child(command)
                case AwaitMessage():
                    self._await_message(command)
                case WriteDown():
                    at = self.history[-1].at
                    written = msgspec.structs.replace(command.record, at=at)
                    self._at(at, written.op, lambda written=written: written)  # type: ignore[misc]
                case CancelOperation():
                    self.cancelled.append(command.operation.id)
                    if isinstance(command.operation, StartChild):
                        self._cancel_child(command.operation)
                case Finish():
                    self.finish = command

    def _open(self, operation: Operation) -> bool:
        return self.machine.operations.get(operation.id) is operation

    def _start_step(self, operation: RunStep) -> None:
        args, kwargs = operation.call.definition.arguments.decode(operation.input)
        given = bound(operation.call.definition.function, args, kwargs)
        takes, tries = given["takes"], given["tries"]
        attempt = operation.failed_attempts + 1
        began = max(operation.asked_at, operation.retry_at)
        if self._notes and takes > 3 and not operation.noted:
            self._at(
                began + 0.1,
                operation.id,
                lambda: (
                    ev.StepStarted(at=began + 0.1, step=operation.id, attempt=attempt)
                    if self._open(operation)
                    else None
                ),
            )
        due = began + takes

        def end() -> ev.Event | None:
            if not self._open(operation):
                return None
            if attempt < tries:
                return ev.StepAttemptFailed(
                    at=due,
                    step=operation.id,
                    attempt=attempt,
                    failure=failure_of(OSError("not yet")),
                    retry_at=due + 0.5,
                    started_at=began,
                )
            error, value = plainly(operation.call.definition.function(*args, **kwargs))
            if error is not None:
                return ev.StepFailed(
                    at=due,
                    step=operation.id,
                    attempt=attempt,
                    started_at=began,
                    failure=failure_of(error),
                    input=operation.input,
                )
            data, _ = operation.call.definition.result.record(value)
            return ev.StepCompleted(
                at=due,
                step=operation.id,
                attempt=attempt,
                started_at=began,
                result=data,
                input=operation.input,
            )

        def act() -> ev.Event | None:
            event = end()
            if isinstance(event, ev.StepAttemptFailed):
                self._at(due + 0.5, operation.id, lambda: self._again(operation))
            return event

        self._at(due, operation.id, act)

    def _again(self, operation: RunStep) -> None:
        if self._open(operation):
            self._start_step(operation)

    def _start_timer(self, operation: StartTimer) -> None:
        if self._notes and operation.due - operation.asked_at > 3 and not operation.noted:
            at = operation.asked_at + 0.1
            self._at(
                at,
                operation.id,
                lambda: (
                    ev.TimerStarted(at=at, timer=operation.id, due=operation.due)
                    if self._open(operation)
                    else None
                ),
            )
        self._at(
            operation.due,
            operation.id,
            lambda: ev.TimerFired(at=operation.due, timer=operation.id) if self._open(operation) else None,
        )

    def _await_message(self, operation: AwaitMessage) -> None:
        if self._notes and not operation.noted:
            at = operation.asked_at + 0.1
            note = ev.MessageAwaited(at=at, receive=operation.id, name=operation.name)
            self._at(at, operation.id, lambda: note if self._open(operation) else None)

    def _start_child(self, operation: StartChild) -> None:
        started = ev.ChildStarted(
            at=operation.asked_at,
            child=operation.id,
            run=operation.run_id,
            workflow=operation.workflow,
            on_parent_close=operation.on_parent_close,
            input=operation.input,
        )
        self._at(operation.asked_at, "", lambda: started)  # it is in the very next append
        self._await_child(operation)

    def _await_child(self, operation: StartChild) -> None:
        definition = workflow_named(operation.workflow)
        assert definition is not None
        args, kwargs = definition.arguments.decode(operation.input)
        due = operation.asked_at + bound(definition.function, args, kwargs)["takes"]

        def end() -> ev.Event | None:
            if operation.id not in self.machine.operations:
                return None
            error, value = plainly(definition.function(*args, **kwargs))
            if error is not None:
                return ev.ChildEnded(at=due, child=operation.id, status="failed", failure=failure_of(error))
            data, _ = definition.result.record(value)
            return ev.ChildEnded(at=due, child=operation.id, status="completed", result=data)

        self._at(due, operation.id, end)

    def _cancel_child(self, operation: StartChild) -> None:
        at = self.history[-1].at
        self._at(at, operation.id, lambda: ev.ChildEnded(at=at, child=operation.id, status="cancelled"))

    def resume_children(self) -> None:
        """After a replay: children that exist go on in the world outside."""
        for operation in list(self.machine.operations.values()):
            if isinstance(operation, StartChild) and operation.recorded:
                self._await_child(operation)


def bound(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by their names, defaults included."""
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    return given.arguments


def plainly(coroutine: Coroutine[Any, Any, Any]) -> tuple[Exception | None, Any]:
    """Run a coroutine that awaits nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return None, stop.value
    except Exception as error:
        return error, None
    raise AssertionError("it awaited something")


def describe(error: BaseException) -> str:
    """An exception as text, groups with their members."""
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__}[{', '.join(map(describe, error.exceptions))}]"
    return f"{type(error).__name__}({error})"


def simulate(make: Call[Any] | Callable[[], Coroutine[Any, Any, Any]], **options: Any) -> Recorded:
    """Run it live, from its beginning."""
    simulation = Simulation(make, **options)
    simulation.begin()
    recorded = simulation.go_on()
    simulation.machine.close()
    return recorded


def replayed(
    make: Call[Any] | Callable[[], Coroutine[Any, Any, Any]], history: Sequence[ev.Event], **options: Any
) -> Recorded:
    """Replay a history, then drive the run live until it ends."""
    simulation = Simulation(make, **options)
    simulation.replay(history)
    simulation.resume_children()
    recorded = simulation.go_on()
    simulation.machine.close()
    return recorded


def check_replay(make: Callable[[], Any], live: Recorded, *, prefixes: bool = True, **options: Any) -> None:
    """Replay `live`'s history as a whole and from each prefix; everything must come out the same.

    Args:
        make: makes the call, or the coroutine function, afresh.
    """
    cuts = range(1, len(live.history) + 1) if prefixes else [len(live.history)]
    for cut in cuts:
        again = replayed(make(), live.history[:cut], **options)
        where = f"after event {cut} of {len(live.history)}: {live.history[cut - 1]}"
        assert [encode_event(event) for event in again.history] == [
            encode_event(event) for event in live.history
        ], where
        assert again.sights == live.sights, where
        assert (again.ending, again.outcome) == (live.ending, live.outcome), where
        assert set(again.asked) <= set(live.asked), where


def as_workflow(function: Callable[..., Coroutine[Any, Any, Any]]) -> Workflow[..., Any]:
    """The function as a workflow under its own name."""
    return _workflow(name=f"shape.{function.__name__}")(function)


# -- the oracle --------------------------------------------------------------------------------------


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, which jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual = START
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual

    def _run_once(self) -> None:
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count = max(0, self._timer_cancelled_count - 1)
        if scheduled and not self._ready:  # type: ignore[attr-defined]
            self._virtual = max(self._virtual, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]


def plain_asyncio(make: Callable[[], Coroutine[Any, Any, Any]]) -> Recorded:
    """What the same code does on asyncio itself, without durable execution, and without a collection amid it."""
    sights: list[Any] = []
    _Stage.sights, _Stage.plain = sights, True
    gc.collect()
    gc.freeze()  # what is left of the tests before: the next one needn't look at it
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: None)
            value = runner.run(make())
    except Exception as error:
        return Recorded([], [], sights, Ending.RAISED, describe(error), [], error)
    finally:
        gc.enable()
        _Stage.sights, _Stage.plain = None, False
    return Recorded([], [], sights, Ending.RETURNED, value, [])
