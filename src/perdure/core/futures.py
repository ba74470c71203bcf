"""Futures and tasks whose hash is a running number, not a memory address.

asyncio keeps tasks in sets (`wait`, `as_completed`, `TaskGroup`), and a set's order follows from the
hashes in it. Numbering the objects in the order of their creation makes that order the same in every
process, so that `for task in done:` replays as it ran. Equality stays identity.

anyio keeps the cancel scopes of a task group's tasks in a set, too, and those are no objects of ours: what
it cancels in one go is therefore put in the order of the tasks' numbers here.

A third kind of future holds cancellations off: its waiter goes on waiting, and somebody is told.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Future = asyncio.Future[Any]
    _Task = asyncio.Task[Any]
else:
    _Future = asyncio.Future
    _Task = asyncio.Task


class NumberedFuture(_Future):
    """An asyncio future with a number for its hash."""

    __slots__ = ("number",)

    def __init__(self, number: int, **kwargs: Any) -> None:
        self.number = number
        super().__init__(**kwargs)

    def __hash__(self) -> int:
        return self.number


class HeldFuture(_Future):
    """A future whose waiter can't be cancelled away from it.

    Args:
        refused: called with the message of each cancellation that came for the waiter meanwhile.
    """

    __slots__ = ("_refused",)

    def __init__(self, refused: Callable[[Any], None], **kwargs: Any) -> None:
        self._refused = refused
        super().__init__(**kwargs)

    def cancel(self, msg: Any | None = None) -> bool:
        """What a task does to the future it waits for when it is cancelled: True stands for "that will end it".

        Also when this is done and its waiter about to wake up: else the waiter would be cancelled then.
        """
        self._refused(msg)
        return True


class NumberedTask(_Task):
    """An asyncio task with a number for its hash. `run_context` is where its code runs."""

    __slots__ = ("number", "run_context")

    def __init__(self, number: int, coro: Any, context: contextvars.Context, **kwargs: Any) -> None:
        self.number = number
        self.run_context = context
        super().__init__(coro, context=context, **kwargs)

    def __hash__(self) -> int:
        return self.number

    def cancel(self, msg: Any | None = None) -> bool:
        if sys._getframe(1).f_code.co_name == "_deliver_cancellation":  # of anyio's cancel scopes
            loop: Any = self.get_loop()
            return bool(loop.cancel_in_order(self.number, super().cancel, msg))
        return super().cancel(msg)
