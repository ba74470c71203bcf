"""What call_soon and call_later return: callbacks in the ready queue, and callbacks that wait for their time."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

# What a timer is for, told by the callback that asyncio and anyio give it. Python's versions differ in how
# `wait_for` is made; its timer is a time-out in all of them.
_TIMER_KINDS = {
    "_set_result_unless_cancelled": "sleep",
    "_on_timeout": "timeout",
    "_release_waiter": "timeout",
    "_handle_timeout": "timeout",
    "_timeout": "timeout",
}


def timer_kind(callback: Callable[..., Any]) -> str:
    """What a timer is for: "sleep", "timeout", or "timer" for any other callback."""
    return _TIMER_KINDS.get(getattr(callback, "__name__", ""), "timer")


class Handle(msgspec.Struct, eq=False):
    """A callback in the ready queue.

    Each step has one. As a Struct it is made in a tenth of the time that a class with an `__init__` takes, which is a
    hundredth of a step's CPU.
    """

    _callback: Callable[..., Any]
    _args: Sequence[Any]
    _context: contextvars.Context
    _cancelled: bool = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def get_context(self) -> contextvars.Context:
        return self._context


class OrderedHandle(Handle, eq=False):
    """A callback that keeps its place among others of its kind."""

    number: int = 0


class TimerOwner(Protocol):
    """Whoever makes timers durable."""

    def timer_started(self, handle: TimerHandle) -> None: ...
    def timer_cancelled(self, handle: TimerHandle) -> None:
        """Before it has fired."""
        ...


class TimerHandle(Handle, eq=False, kw_only=True):
    """A callback that waits for its time. Its owner hears of it when it is made and when it is cancelled."""

    id: str
    _when: float
    _owner: TimerOwner | None
    _fired: bool = False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if not self._fired and self._owner is not None:
                self._owner.timer_cancelled(self)
