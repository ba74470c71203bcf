"""How anyio cancels: all tasks of a scope in one go, and again in every turn of the loop.

The order in which one go wakes them is made that of the tasks' numbers, see futures.py.

anyio insists: it tells the tasks of a cancelled scope in every turn of the loop, as long as one of them stays in the
scope. A task that holds cancellations off stays there until an event comes, and no event comes before the loop
has been drained. So when nothing but such insistence is ready any more, it is parked until the next drain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from perdure.core.handles import Handle, OrderedHandle


class _Redelivery(Handle, eq=False):
    """One more delivery of a cancellation."""


def insists(callback: Callable[..., Any]) -> bool:
    """Whether a callback (a bound method) is anyio's way to say again that a scope is cancelled."""
    return callback.__name__ == "_deliver_cancellation"


class Insistence:
    """The redeliveries of one loop.

    Args:
        ready: returns the loop's ready queue.
    """

    __slots__ = ("_fruitless", "_parked", "_ready")

    def __init__(self, ready: Callable[[], deque[Handle] | None]) -> None:
        self._ready = ready
        self._parked: list[Handle] = []  # those that wait until something else happens
        self._fruitless = 0  # how many in a row had nothing to do

    def wrap(self, handle: Handle) -> Handle:
        """What to put into the ready queue for a redelivery."""
        return _Redelivery(self._deliver, (handle._callback, *handle._args), handle._context)

    def resume(self, ready: deque[Handle]) -> None:
        """Something else has happened: let the parked ones follow it."""
        ready.extend(self._parked)
        self._parked.clear()

    def _deliver(self, callback: Callable[..., Any], *args: Any) -> None:
        callback(*args)
        ready = self._ready()
        if ready is None or not all(isinstance(handle, _Redelivery) for handle in ready):
            self._fruitless = 0
        elif self._fruitless < len(ready):
            self._fruitless += 1
        else:
            self._fruitless = 0
            self._parked.extend(ready)
            ready.clear()


def cancel_in_order(ready: deque[Handle], number: int, cancel: Callable[[Any], bool], msg: Any) -> bool:
    """Cancel a task; what that makes ready comes before the like of tasks with a higher number."""
    before = len(ready)
    done = cancel(msg)
    last = [ready.pop() for _ in range(len(ready) - before)]
    made = [OrderedHandle(one._callback, one._args, one._context, number=number) for one in last]
    later: list[Handle] = []
    while ready and isinstance(other := ready[-1], OrderedHandle) and other.number > number:
        later.append(ready.pop())
    ready.extend(reversed(made))
    ready.extend(reversed(later))
    return done
