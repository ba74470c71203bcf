"""Waiting for the run's own state: `until(predicate)`.

The predicates are looked at after each drain of the loop, when whatever an event has set going has come to
rest, and again after each one that came true. Only one waiter is woken at a time: its code goes on before
anything else runs, so what it waited for is still true then. No event, no look: nothing is polled.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Generator
from typing import Any, NoReturn, Protocol

from perdure.core.loop import WorkflowLoop
from perdure.errors import UsageError


class Run(Protocol):
    """What conditions ask of their run."""

    inert: bool

    @property
    def loop(self) -> WorkflowLoop: ...


class _Waiter:
    """Code that waits until its predicate holds."""

    __slots__ = ("context", "future", "predicate")

    def __init__(
        self, predicate: Callable[[], object], future: asyncio.Future[None], context: contextvars.Context
    ) -> None:
        self.predicate = predicate
        self.future = future
        self.context = context


class Conditions:
    """The waits of one run for its own state, in the order of asking."""

    __slots__ = ("_run", "_waiting")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waiting: list[_Waiter] = []

    def wait(self, predicate: Callable[[], object], timeout: float | None) -> Generator[Any, Any, None]:
        """What `await until(...)` runs."""
        loop = self._run.loop
        waiter = _Waiter(predicate, loop.create_future(), contextvars.copy_context())
        if self._look(waiter):
            yield from waiter.future  # done already; it raises if the predicate has
            return
        timer = None if timeout is None else loop.call_later(timeout, _on_timeout, waiter.future, timeout)
        self._waiting.append(waiter)
        try:
            yield from waiter.future
        finally:
            self._waiting.remove(waiter)
            if timer is not None:
                timer.cancel()

    def settle(self) -> None:
        """The loop has come to rest: wake those whose predicate holds now, one after the other."""
        loop = self._run.loop
        again = bool(self._waiting)
        while again:
            again = False
            for waiter in tuple(self._waiting):
                if not waiter.future.done() and self._look(waiter):
                    loop.drain()
                    again = bool(self._waiting)
                if loop.interrupted:
                    return

    def _look(self, waiter: _Waiter) -> bool:
        """Whether a waiter's code can go on: its predicate holds, or has raised."""
        loop = self._run.loop
        entered = loop.enter()
        loop.__class__ = _LookingLoop
        try:
            answer = waiter.context.run(_ask, waiter.predicate)
            error: BaseException | None = None
        except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - it is the waiter's
            answer, error = True, raised
        finally:
            done_looking(loop)
            if entered:
                loop.leave()
        if error is not None:
            waiter.future.set_exception(error)
            waiter.future.exception()
        elif answer:
            waiter.future.set_result(None)
        return answer


def done_looking(loop: WorkflowLoop) -> None:
    """The loop may act again. Called, too, by whoever interrupts a predicate."""
    loop.__class__ = WorkflowLoop


def _ask(predicate: Callable[[], object]) -> bool:
    try:
        answer = predicate()
    except StopIteration as error:  # which no coroutine can raise
        raise RuntimeError("the predicate of an until() raised StopIteration") from error
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        name = getattr(
            predicate, "__qualname__", type(predicate).__qualname__
        )  # its repr may differ on replay
        msg = (
            f"until() was given {name}, whose answer has to be awaited: it takes a plain function that looks at the "
            "run's own state, as in until(lambda: len(done) == 3)"
        )
        raise UsageError(msg)
    return bool(answer)


def _on_timeout(future: asyncio.Future[None], timeout: float) -> None:
    if not future.done():
        future.set_exception(TimeoutError(f"what until() waits for hasn't come true within {timeout:g} s"))
        future.exception()


class _LookingLoop(WorkflowLoop):
    """The run's loop while a predicate looks at the run's state."""

    def _refuse(self, what: str) -> NoReturn:
        msg = (
            f"the predicate of an until() {what}: it may only look at the run's own state, and change nothing"
        )
        raise UsageError(msg)

    def call_soon(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("woke up something that waits in the run")

    def call_at(self, *args: Any, **kwargs: Any) -> NoReturn:  # type: ignore[override]
        self._refuse("started a timer")

    def create_future(self) -> NoReturn:
        self._refuse("made a future")

    def create_task(self, coro: Any, **kwargs: Any) -> NoReturn:
        coro.close()
        self._refuse("started a task")

    def scope(self) -> NoReturn:
        self._refuse("asked for something durable")
