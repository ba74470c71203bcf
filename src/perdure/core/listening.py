"""A run's waits for publications.

What a run gets of publications is a *subscription* of its own for each name and condition: the publications in the
order of their numbers, each once. Where the run stands in it is the number of the last one that its code went on
with. That number goes out with each wait, and the store answers with the first later one that fits. So nothing is
lost with a wait that is given up while its publication is on its way: it comes again to the next one.

Of several waits for the same, one is out at a time, in the order of their asking; the others follow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import msgspec

from perdure.core.commands import AwaitPublication
from perdure.core.events import Heard, Record, RunStarted
from perdure.core.loop import WorkflowLoop

#: Subscriptions whose place goes over to the next generation; of more, those used last.
_HEARD_MAX = 1000


class Run(Protocol):
    """What listening asks of its run."""

    inert: bool

    @property
    def loop(self) -> WorkflowLoop: ...
    def open_listening(self, operation: AwaitPublication) -> None: ...
    def give_up_listening(self, operation: AwaitPublication) -> None: ...
    def write_down(self, record: Record, effects: Sequence[Any] = ()) -> None: ...


def heard_of(started: RunStarted) -> Heard:
    """What a run has had of publications when it began. One that goes on from another has begun when that one did."""
    if started.heard is not None:
        return started.heard
    return Heard(started.at if started.donor is None else started.donor.began)


class Listening:
    """The waits of one run.

    Args:
        heard: where its earlier generations stood.
        closing: what the store does when a wait, by its op id, is given up.

    Attributes:
        numbers: by subscription the number of the last publication that the code got.
    """

    __slots__ = ("_heard", "_lines", "_run", "closing", "numbers")

    def __init__(self, run: Run, heard: Heard, closing: Callable[[str], Sequence[Any]]) -> None:
        self._run = run
        self._lines: dict[str, deque[AwaitPublication]] = {}
        self.numbers = dict(heard.numbers)
        self._heard = heard
        self.closing = closing

    def wait(
        self,
        name: str,
        where: str,
        decode: Callable[[bytes], Any],
        since: float | None,
        timeout: float | None,
    ) -> Generator[Any, Any, Any]:
        """What `await event(...)` runs."""
        run, loop = self._run, self._run.loop
        subscription = f"{name}?{where}" if where else name
        operation = AwaitPublication(
            id=loop.scope().numbered("event"),
            asked_at=loop.now,
            name=name,
            where=where,
            subscription=subscription,
            decode=decode,
            future=loop.create_future(),
            since=self._heard.since if since is None else since,
            timeout=timeout,
        )
        timer = None if timeout is None else loop.call_later(timeout, _on_timeout, operation)
        line = self._lines.setdefault(subscription, deque())
        line.append(operation)
        try:
            while line[0] is not operation:
                yield from operation.future
                operation.future = loop.create_future()
            operation.after = self.numbers.get(subscription, 0)
            run.open_listening(operation)
            number, value = yield from operation.future
            self._moves_on(subscription, number)
            return value
        finally:
            first = line[0] is operation
            line.remove(operation)
            if timer is not None:
                timer.cancel()
            if not run.inert:
                run.give_up_listening(operation)
                if not line:
                    self._lines.pop(subscription, None)
                elif first and not line[0].future.done():
                    line[0].future.set_result(None)

    def passed_over(self, operation: AwaitPublication, number: int) -> None:
        """A publication can't be read: the wait goes on behind it."""
        operation.after = number
        self._moves_on(operation.subscription, number)

    def heard(self) -> Heard:
        """Where the run stands, for its next generation."""
        newest = list(self.numbers.items())[-_HEARD_MAX:]
        return msgspec.structs.replace(self._heard, numbers=dict(newest))

    def _moves_on(self, subscription: str, number: int) -> None:
        self.numbers.pop(subscription, None)  # so that those used last come last
        self.numbers[subscription] = number


def _on_timeout(operation: AwaitPublication) -> None:
    future: asyncio.Future[Any] = operation.future
    if not future.done():
        future.set_exception(
            TimeoutError(f"no event {operation.name!r} has come within {operation.timeout:g} s")
        )
        future.exception()  # if the code was cancelled meanwhile, nobody looks at it: no complaint
