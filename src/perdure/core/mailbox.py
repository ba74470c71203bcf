"""Messages that have come, and the code that waits for them.

Each name is a line of its own: messages in the order of their arrival on one side, receivers in the order of
their asking on the other. A receiver is only *woken* when there is a message; it takes it when it runs, in the
same step in which its code goes on with it. So a receiver that is cancelled in between leaves the message to
the next one, and none is lost.

A message that can't be read as what its receiver expects is set aside, and a record tells so. Whether one is, has
to be the same on every replay, also when the type has changed meanwhile. So what the history says counts: its
records are looked up before it is fed (`look_ahead`). A message that it doesn't set aside, and that can't be read
now, was received in those days, unless the run's worker died before the record was written. In that case nothing
the code asked for after it is in the history either; `Doubt` makes sure of that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Protocol

from perdure.core.commands import AwaitMessage
from perdure.core.events import MessageReceived, MessageSetAside, Record
from perdure.core.loop import WorkflowLoop
from perdure.errors import UndecodableError

_NOTHING: Any = object()


class Run(Protocol):
    """What a mailbox asks of its run."""

    inert: bool
    replaying: bool
    look_ahead: Callable[[], dict[int, str]] | None

    @property
    def loop(self) -> WorkflowLoop: ...
    def write_down(self, record: Record) -> None: ...
    def open_wait(self, operation: AwaitMessage) -> None: ...
    def end_wait(self, operation: AwaitMessage) -> None: ...
    def give_up(self, operation: AwaitMessage) -> None: ...
    def doubt_message(self, number: int, error: UndecodableError) -> None: ...


class Doubt:
    """A replayed message can't be read, and the history doesn't set it aside.

    Attributes:
        number: the message's.
        error: what to raise if it turns out to have been received.
        known: what the code had asked for before; an outcome of anything else proves it.
    """

    __slots__ = ("error", "known", "number")

    def __init__(self, number: int, error: UndecodableError, known: frozenset[str]) -> None:
        self.number = number
        self.error = error
        self.known = known


class _Line:
    """The messages and receivers of one name."""

    __slots__ = ("messages", "receivers")

    def __init__(self) -> None:
        self.messages: deque[tuple[int, MessageReceived]] | None = (
            None  # most wait for one: a deque is 770 bytes
        )
        self.receivers: list[AwaitMessage] = []

    def wake(self) -> None:
        """There may be messages for the first receivers: let them look when they run."""
        for receiver, _ in zip(self.receivers, self.messages or (), strict=False):
            if not receiver.future.done():
                receiver.future.set_result(None)


class Mailbox:
    """The messages of one run."""

    __slots__ = ("_aside", "_lines", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lines: dict[str, _Line] = {}
        #: numbers of the messages that the history sets aside, with the reasons
        self._aside: dict[int, str] = run.look_ahead() if run.look_ahead is not None else {}

    def put(self, number: int, event: MessageReceived) -> None:
        """A message has arrived; `number` is that of its event."""
        line = self._line(event.name)
        if line.messages is None:
            line.messages = deque()
        line.messages.append((number, event))
        line.wake()

    def receive(
        self, name: str, decode: Callable[[bytes], Any], timeout: float | None
    ) -> Generator[Any, Any, Any]:
        """What `await receive(...)` runs. All in one generator: an agent that waits for a message is the run that is
        most often in memory, and each generator is 300 bytes."""
        run, line = self._run, self._line(name)
        value = _NOTHING if line.receivers else self._take(name, line, decode)
        if value is _NOTHING:
            loop = run.loop
            op_id = loop.scope().numbered("receive")
            operation = AwaitMessage(op_id, loop.now, name, loop.create_future(), timeout, decode)
            run.open_wait(operation)
            timer = None if timeout is None else loop.call_later(timeout, _on_timeout, operation)
            line.receivers.append(operation)
            line.wake()
            try:
                while value is _NOTHING:
                    yield from operation.future
                    value = self._take(name, line, decode)
                    if value is _NOTHING:
                        operation.future = loop.create_future()
                        if operation.expired:
                            _on_timeout(operation)
                run.end_wait(operation)
            finally:
                line.receivers.remove(operation)
                if timer is not None:
                    timer.cancel()
                if not run.inert:
                    run.give_up(operation)
                    line.wake()
        if not line.receivers and not line.messages:
            self._lines.pop(name, None)
        return value

    def waiting(self, name: str) -> int:
        """How many messages of this name have come and no code has received."""
        line = self._lines.get(name)
        return 0 if line is None or line.messages is None else len(line.messages)

    def unread(self) -> list[tuple[int, MessageReceived]]:
        """The messages that no code has received, with their numbers, in the order of their arrival."""
        found = [item for line in self._lines.values() for item in line.messages or ()]
        return sorted(found, key=lambda item: item[0])

    def left(self) -> list[MessageReceived]:
        """The messages that no code has received, in the order of their arrival."""
        return [event for _, event in self.unread()]

    def _line(self, name: str) -> _Line:
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line()
        return line

    def _take(self, name: str, line: _Line, decode: Callable[[bytes], Any]) -> Any:
        """The next message that can be read; those before it are set aside."""
        while line.messages:
            number, event = line.messages.popleft()
            if not line.messages:
                line.messages = None
            why = self._aside.get(number)
            if why is None:
                try:
                    return decode(event.payload)
                except UndecodableError as error:
                    why = str(error)
                    if self._run.replaying:
                        self._run.doubt_message(number, _unreadable(name, number, why))
            op = f"message:{number}"
            self._run.write_down(MessageSetAside(at=self._run.loop.now, op=op, why=why))
        return _NOTHING


def _unreadable(name: str, number: int, why: str) -> UndecodableError:
    return UndecodableError(
        f"message {name!r} (event {number}) was received by this run when it first came here, and now {why}. Let the "
        "type read the old value again (keep the names of fields, give new ones a default), or bring back the code "
        "that received it; the run goes on by itself then."
    )


def _on_timeout(operation: AwaitMessage) -> None:
    operation.expired = True
    future: asyncio.Future[Any] = operation.future
    if not future.done():
        future.set_exception(
            TimeoutError(f"no message {operation.name!r} has come within {operation.timeout:g} s")
        )
        future.exception()  # if the code was cancelled meanwhile, nobody looks at it: no complaint
