"""A look at a run that changes nothing: the turn in which queries and validators are called.

While such a turn lasts, the run's machine and loop have other classes, whose methods for acting refuse with
ReadOnlyError; so the methods of ordinary turns needn't ask each time whether they may.

A refusal is remembered even if the code catches it. Before asyncio's own objects reach the loop they have often
changed already (an Event is set, a Queue has its item), and plain Python objects change without anybody being
asked. The state in memory is void after a refusal, and the driver builds it anew from the history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from perdure.core.futures import NumberedTask
from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.core.patches import patch_op
from perdure.errors import ReadOnlyError

T = TypeVar("T")

_ADVICE = (
    "They only look: they start nothing, wake nothing up and draw no random numbers. Nothing has changed in the run. "
    "Put what acts into an update handler (perdure.on_update)."
)

_ACTED = "acted_in_a_look"


def look(machine: Machine, call: Callable[[], T]) -> T:
    """Call something in the run's context that mustn't change it.

    Raises:
        ReadOnlyError: it tried to, whatever it returned or raised then. The machine's state is void.
    """
    loop = machine.loop
    assert isinstance(loop.root, NumberedTask)
    context = loop.root.run_context.copy()
    machine.__class__ = _ReadOnlyMachine
    loop.__class__ = _ReadOnlyLoop
    entered = loop.enter()
    try:
        return context.run(call)
    finally:
        acted = done_looking(machine)
        if entered:
            loop.leave()
        if acted is not None:
            raise ReadOnlyError(acted)


def done_looking(machine: Machine) -> str | None:
    """The machine may act again. Returns what it refused meanwhile.

    Whoever interrupts a look calls this, since the interrupt may have cut short that one's end.
    """
    machine.__class__ = Machine
    machine.loop.__class__ = WorkflowLoop
    acted: str | None = machine.loop.__dict__.pop(_ACTED, None)
    return acted


class _ReadOnlyLoop(WorkflowLoop):
    def refuse(self, what: str) -> NoReturn:
        message = f"a query handler or validator of run {self.name!r} {what}. {_ADVICE}"
        self.__dict__.setdefault(_ACTED, message)
        raise ReadOnlyError(message)

    def call_soon(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self.refuse("woke up something that waits in the run")

    def call_at(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self.refuse("started a timer")

    def create_future(self) -> NoReturn:
        self.refuse("made a future")

    def create_task(self, coro: Any, **kwargs: Any) -> NoReturn:
        coro.close()
        self.refuse("started a task")

    def scope(self) -> NoReturn:
        self.refuse("asked for something durable")


class _ReadOnlyMachine(Machine):
    __slots__ = ()

    def _refuse_acting(self, what: str) -> NoReturn:
        loop = self.loop
        assert isinstance(loop, _ReadOnlyLoop)
        loop.refuse(what)

    def write_down(self, record: Any, effects: Any = ()) -> NoReturn:
        self._refuse_acting("did something that is recorded")

    def patched(self, change: str, effects: Any) -> bool:
        """What the run was told of a change; what it hasn't asked yet isn't settled by this."""
        return self._patches is None or self._patches.get(patch_op(change), True)

    def random(self) -> NoReturn:
        self._refuse_acting("drew a random number")

    def child(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("started a child run")

    def cancel_child(self, operation: Any) -> NoReturn:
        self._refuse_acting("cancelled a child run")

    def ask(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("asked a person")

    def receive(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("received a message")

    def listen(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("waited for an event")

    def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("sent a message")

    def until(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse_acting("waited for the run's state")

    def handle_queries(self, name: str, handler: Any) -> NoReturn:
        self._refuse_acting("registered a handler")

    def handle_updates(self, name: str, handler: Any) -> NoReturn:
        self._refuse_acting("registered a handler")

    def _open(self, operation: Any) -> NoReturn:
        self._refuse_acting("asked for something durable")

    def _drop(self, operation: Any) -> NoReturn:
        self._refuse_acting("gave up what the run waits for")
