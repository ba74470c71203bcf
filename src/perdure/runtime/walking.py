"""What the tasks of a run's machine are in the middle of: where each stands, and what it waits for."""

from __future__ import annotations

import asyncio
import os
from types import FrameType
from typing import Any

from perdure.codec.picturing import picture
from perdure.core.commands import (
    AwaitCallback,
    AwaitMessage,
    AwaitPublication,
    OpenOperation,
    RunStep,
    SendMessage,
    StartChild,
    StartTimer,
)
from perdure.core.continuing import ContinueAs
from perdure.core.futures import NumberedTask
from perdure.core.machine import Machine
from perdure.core.standing import OpenOperation as Shown
from perdure.core.standing import StandingTask
from perdure.runtime.frames import chain_of, frames_of, is_own, raised_at
from perdure.runtime.sources import Sources

TASKS_MAX = 200
TEXT_MAX = 300_000  #: characters of variables; the tasks behind that are shown without theirs
OPERATIONS_MAX = 500
_NAME_MAX = 200

#: What code waits for inside asyncio and this package, by file and function.
_WAITS = {
    ("locks", "Event.wait"): "an asyncio.Event to be set",
    ("locks", "Lock.acquire"): "an asyncio.Lock",
    ("locks", "Semaphore.acquire"): "a place in an asyncio.Semaphore",
    ("locks", "Condition.wait"): "an asyncio.Condition",
    ("locks", "Barrier.wait"): "an asyncio.Barrier",
    ("queues", "Queue.get"): "an item of an asyncio.Queue",
    ("queues", "Queue.put"): "room in an asyncio.Queue",
    ("queues", "Queue.join"): "an asyncio.Queue to be worked off",
    ("taskgroups", "TaskGroup.__aexit__"): "the tasks of its TaskGroup",
    ("taskgroups", "TaskGroup._aexit"): "the tasks of its TaskGroup",
    ("tasks", "_wait"): "other tasks (asyncio.wait)",
    ("tasks", "_AsCompletedIterator._wait_for_one"): "the next of several tasks",
    ("tasks", "as_completed.<locals>._wait_for_one"): "the next of several tasks",
    ("conditions", "Conditions.wait"): "the run's own state (until)",
}


class Walk:
    """Looks at all that a machine's code has begun.

    Attributes:
        sources: the texts of the functions that were met.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.sources = Sources()
        self._base: int = machine.loop.root.number - 1 if isinstance(machine.loop.root, NumberedTask) else 0
        self._by_future: dict[int, OpenOperation] = {}
        for operation in machine.operations.values():
            for future in _futures(operation):
                self._by_future[id(future)] = operation

    # -- tasks --------------------------------------------------------------------------------------

    def tasks(self) -> tuple[tuple[StandingTask, ...], int]:
        """The live tasks, and how many are left out. Of a run whose code has ended: how it has."""
        live = self._live()
        if not live:
            return ((self._ended(),) if self._machine.loop.root is not None else ()), 0
        shown: list[StandingTask] = []
        left = TEXT_MAX
        for task in live[:TASKS_MAX]:
            made = self._task(task, bare=left <= 0)
            left -= sum(len(variable.text) for frame in made.frames for variable in frame.variables)
            shown.append(made)
        return tuple(shown), max(0, len(live) - TASKS_MAX)

    def frame_of(self, number: int, depth: int) -> FrameType | None:
        """The frame at this depth of a task, not counting those of libraries; None if there is none."""
        live = self._live()
        if live:
            task = next((task for task in live if task.number - self._base == number), None)
            places = [] if task is None else chain_of(task.get_coro()).places
        else:
            error = self._error() if number == 1 else None
            places = [] if error is None else raised_at(error)
        own = [place.frame for place in places if is_own(place)]
        return own[depth] if 0 <= depth < len(own) else None

    def _live(self) -> list[NumberedTask]:
        return [task for task in self._machine.loop.live_tasks() if isinstance(task, NumberedTask)]

    def _task(self, task: NumberedTask, *, bare: bool) -> StandingTask:
        chain = chain_of(task.get_coro())
        waiter = getattr(task, "_fut_waiter", None)
        operation = self._by_future.get(id(waiter))
        return StandingTask(
            id=task.number - self._base,
            name=self._name(task),
            awaits=_awaited(operation) if operation is not None else self._other(waiter, chain.plumbing),
            operation=None if operation is None else operation.id,
            since=None if operation is None else operation.asked_at,
            frames=frames_of(chain.places, self.sources, bare=bare),
        )

    def _name(self, task: NumberedTask) -> str:
        return "main" if task is self._machine.loop.root else str(task.get_name())[:_NAME_MAX]

    def _other(self, waiter: Any, plumbing: tuple[str, str] | None) -> str:
        """What a task waits for that is no operation of the run."""
        if isinstance(waiter, NumberedTask):
            return f"task {self._name(waiter)}"
        if type(waiter) is asyncio.tasks._GatheringFuture:  # type: ignore[attr-defined]
            children = waiter._children
            left = [child for child in children if not child.done()]
            names = ", ".join(self._name(child) for child in left[:4] if isinstance(child, NumberedTask))
            more = f", … {len(left) - 4:,} more" if len(left) > 4 else ""
            return f"gather: {len(children) - len(left):,} of {len(children):,} done; left: {names}{more}"
        if plumbing is not None:
            file, function = plumbing
            module = os.path.basename(file).removesuffix(".py")
            return _WAITS.get((module, function), f"{module}: {function}")
        return "something that the code itself will bring" if waiter is not None else "nothing"

    def _ended(self) -> StandingTask:
        """The workflow function when it has ended."""
        root = self._machine.loop.root
        assert root is not None
        error = self._error()
        if root.cancelled():
            return StandingTask(id=1, name="main", awaits="was cancelled", ended="cancelled")
        if isinstance(error, ContinueAs):
            text = "continued as the next generation"
            return StandingTask(id=1, name="main", awaits=text, ended="continued")
        if error is None:
            text = f"returned {picture(root.result())}"
            return StandingTask(id=1, name="main", awaits=text, ended="returned")
        frames = frames_of(raised_at(error), self.sources)
        text = f"raised {picture(error)}"
        return StandingTask(id=1, name="main", awaits=text, ended="raised", frames=frames)

    def _error(self) -> BaseException | None:
        """What the workflow function has raised, if it has ended so."""
        root = self._machine.loop.root
        if root is None or not root.done() or root.cancelled():
            return None
        return root.exception()

    # -- operations ---------------------------------------------------------------------------------

    def operations(self) -> tuple[tuple[Shown, ...], int]:
        """What is open, in the order in which it was asked for, and how many are left out."""
        found = list(self._machine.operations.values())
        return tuple(_shown(operation) for operation in found[:OPERATIONS_MAX]), max(
            0, len(found) - OPERATIONS_MAX
        )


def _futures(operation: OpenOperation) -> list[Any]:
    match operation:
        case StartTimer():
            return [arg for arg in operation.handle._args if isinstance(arg, asyncio.Future)]
        case StartChild():
            return [operation.started, operation.ended]
        case AwaitCallback():
            return [operation.ended]
        case _:
            return [operation.future]


def _awaited(operation: OpenOperation) -> str:
    return f"{_KINDS[type(operation)]} {operation.id[:_NAME_MAX]}"


_KINDS: dict[type[Any], Any] = {
    RunStep: "step",
    StartTimer: "timer",
    StartChild: "child",
    AwaitCallback: "callback",
    AwaitMessage: "message",
    AwaitPublication: "event",
    SendMessage: "send",
}


def _shown(operation: OpenOperation) -> Shown:
    kind = _KINDS[type(operation)]
    what, until = "", None
    match operation:
        case RunStep():
            what = operation.name
        case StartTimer():
            until = operation.due
        case StartChild():
            what = f"run {operation.run_id} of {operation.workflow}"
        case AwaitCallback():
            if operation.question is not None:
                kind, what = "question", operation.question.text
        case AwaitMessage() | AwaitPublication():
            what = operation.name
        case SendMessage():
            what = f"{operation.name} to run {operation.to}"
    return Shown(
        id=operation.id[:_NAME_MAX], kind=kind, what=what[:_NAME_MAX], since=operation.asked_at, until=until
    )
