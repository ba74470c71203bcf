"""What call_soon and call_later return: callbacks in the ready queue, and callbacks that wait for their time."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Sequence
from typing import Any, Protocol

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


class Handle:
    """A callback in the ready queue."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context")

    def __init__(
        self, callback: Callable[..., Any], args: Sequence[Any], context: contextvars.Context
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def get_context(self) -> contextvars.Context:
        return self._context


class OrderedHandle(Handle):
    """A callback that keeps its place among others of its kind."""

    __slots__ = ("number",)

    def __init__(self, number: int, handle: Handle) -> None:
        super().__init__(handle._callback, handle._args, handle._context)
        self.number = number


class TimerOwner(Protocol):
    """Whoever makes timers durable."""

    def timer_started(self, handle: TimerHandle) -> None: ...
    def timer_cancelled(self, handle: TimerHandle) -> None:
        """Before it has fired."""
        ...


class TimerHandle(Handle):
    """A callback that waits for its time. Its owner hears of it when it is made and when it is cancelled."""

    __slots__ = ("_fired", "_owner", "_when", "id")

    def __init__(
        self,
        id: str,
        when: float,
        callback: Callable[..., Any],
        args: Sequence[Any],
        context: contextvars.Context,
        owner: TimerOwner | None,
    ) -> None:
        super().__init__(callback, args, context)
        self.id = id
        self._when = when
        self._owner = owner
        self._fired = False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            if not self._fired and self._owner is not None:
                self._owner.timer_cancelled(self)
