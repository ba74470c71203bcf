"""A small deterministic event loop: plain asyncio, driven by hand.

Each run has one. It has no selector, no threads and no clock: `time()` is what it was last told, a timer
is handed to its owner (who makes it durable), and `drain()` runs whatever is ready until nothing is. What
asyncio code does between two drains follows from the code and from the order of events fed in between,
and from nothing else; that is what makes replay possible.

The loop is entered from a plain callback of the real loop, which it replaces as the running loop for as
long as it drains. Whatever can't be deterministic (sockets, threads, subprocesses, signals) raises
ForbiddenInWorkflowError with the name of what to write instead.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
from asyncio import events as _events
from collections import deque
from collections.abc import AsyncGenerator, Callable
from types import MethodType
from typing import Any

from perdure.core.forbidden import called_on_the_spot, thread_error
from perdure.core.generators import Generators, Hooks, watch
from perdure.core.handles import Handle, TimerHandle, timer_kind
from perdure.core.insistence import Insistence, cancel_in_order, insists
from perdure.core.tasks import TaskMaker
from perdure.core.unwinding import unwind

_get_running_loop = _events._get_running_loop
_set_running_loop = _events._set_running_loop
_copy_context = contextvars.copy_context
_hooks = sys.get_asyncgen_hooks

logger = logging.getLogger("perdure.workflow")


class WorkflowLoop(TaskMaker):
    """The event loop of one run.

    Args:
        name: name of the root task, shown by asyncio's own tools.
        owner: hears of timers. It is the machine whose loop this is; durable calls find it here.

    Attributes:
        now: what `time()` returns; wall-clock seconds, set by the owner before each drain.
        interrupted: set from outside (the turn limit) to end a drain that doesn't end by itself.
        outer: what runs around this, and whether garbage is collected there; None = this isn't the running loop.
        silent: drop reports of unhandled exceptions (while replaying, and when leaving memory).
    """

    # What few runs have isn't in each of them: 8 bytes for every attribute.
    _generators: Generators | None = None
    _told: set[asyncio.Task[Any]] | None = None  # tasks that wind_up() has no more to say to
    _abandoned = False
    over = False  #: its run's code is gone: who keeps something for each loop may let go of it
    _exception_handler: Callable[[Any, dict[str, Any]], object] | None = None

    def __init__(self, name: str, owner: Any) -> None:
        super().__init__(name)
        self.now = 0.0
        self.interrupted = False
        self.silent = False
        self.owner = owner
        self.outer: tuple[asyncio.AbstractEventLoop | None, bool] | None = None
        self._ready: deque[Handle] | None = None  # only while something is ready: an empty one is 600 bytes
        self._insistence: Insistence | None = None

    # -- being driven -------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run what is ready, and what that makes ready, until nothing is.

        Garbage collection is held off meanwhile: a collection at an arbitrary moment could finalise
        an async generator there, in one place live and in another on replay.
        """
        ready = self._ready
        if ready is None:
            return
        if self._insistence is not None:
            self._insistence.resume(ready)
        entered = self.enter()
        try:
            while ready and not self.interrupted:
                handle = ready.popleft()
                if handle._cancelled:
                    continue
                try:
                    handle._context.run(handle._callback, *handle._args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio does: it ends only the callback
                    context = {"message": "exception in a callback", "exception": error}
                    self.call_exception_handler(context)
        finally:
            if not ready:
                self._ready = None
            if entered:
                self.leave()

    def abandon(self) -> None:
        """Unwind every task where it stands, innermost first, running nothing but its `finally` blocks."""
        self.silent = self._abandoned = True
        entered = self.enter()
        try:
            told: set[Any] = set()
            while alive := [
                task for task in self.live_tasks() if task not in told
            ]:  # unwinding may make more
                told.update(alive)
                task: Any
                for task in reversed(alive):
                    task._log_destroy_pending = False
                    unwind(task, self)
        finally:
            if entered:
                self.leave()
        self._ready = self._insistence = None
        self.root = self._scopes = None

    def enter(self) -> bool:
        """From here on workflow code may run: this is the running loop. False if it was already.

        A replay enters once for many drains.
        """
        if self.outer is not None:
            return False
        if self.dozing:
            self.rouse()
        collecting = gc.isenabled()
        self.outer = (_get_running_loop(), collecting)
        if collecting:
            gc.disable()
        _set_running_loop(self)
        if type(getattr(_hooks()[0], "__self__", None)) is not Hooks:
            watch()
        return True

    def leave(self) -> None:
        """Give the thread back. Once more does nothing, and finishes what an interrupt has cut short."""
        if self.outer is not None:
            loop, collecting = self.outer
            _set_running_loop(loop)
            if collecting:
                gc.enable()
            self.outer = None

    def fire(self, timer: TimerHandle) -> None:
        """A timer's time has come: make its callback ready."""
        if not timer._cancelled:
            timer._fired = True
            self._make_ready(timer)

    def has_leftovers(self) -> bool:
        """Whether tasks beside the root, or async generators, may still be alive."""
        return bool(self._scopes or self._generators)

    def wind_up(self) -> bool:
        """Treat what the root task left running as asyncio.run does. Returns whether there is more to drain.

        Tasks are cancelled, each once, also those made by the cleaning of others; when all have ended,
        the async generators that are still open are closed, oldest first.
        """
        told = self._told = self._told or set()
        alive = self.live_tasks()
        if new := [task for task in alive if task not in told]:
            for task in new:
                task.cancel()
            told.update(new)
            return True
        if alive or not self._generators:
            return False
        found = self._generators.take_open()
        for agen in found:
            self._close_generator(agen)
        return bool(found)

    def _close_generator(self, agen: AsyncGenerator[Any, Any]) -> None:
        context = None if self.outer is not None or self._context is None else self._context.copy()
        task = self._new_task(agen.aclose(), None, context)
        self._told = self._told or set()
        self._told.add(task)  # the run's end waits for it, and doesn't cancel it
        task.add_done_callback(self._told.discard)

    # -- asyncio: callbacks and time ----------------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        context = _copy_context() if context is None else context
        handle = Handle(callback, args, context)
        if isinstance(callback, MethodType) and insists(callback):
            self._insistence = self._insistence or Insistence(lambda: self._ready)
            handle = self._insistence.wrap(handle)
        if self._ready is None:  # as `_make_ready` does; each step comes here
            self._ready = deque()
        self._ready.append(handle)
        return handle

    def _make_ready(self, handle: Handle) -> None:
        if self._ready is None:
            self._ready = deque()
        self._ready.append(handle)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        if when != when:
            msg = "a timer was asked for at the time NaN: give a number of seconds"
            raise ValueError(msg)
        kind = timer_kind(callback)
        if context is None:  # what ends a sleep sets a future, in whichever context: a copy would be 64 bytes
            context = self._context if kind == "sleep" and self._context is not None else _copy_context()
        name = self.scope().numbered(kind)
        timer = TimerHandle(callback, args, context, id=name, _when=when, _owner=self.owner)
        if when <= self.now:
            self.fire(timer)
        elif when != float("inf"):
            self.owner.timer_started(timer)
        return timer

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        """Raises; and as nobody may be looking at the thread that called it, the run's driver is told, too.

        But frameworks which are known to call it within the run's own code as well are heard there.
        """
        ours = _get_running_loop() is self
        if ours and called_on_the_spot and sys._getframe(1).f_globals.get("__name__") in called_on_the_spot:
            return self.call_soon(callback, *args, context=context)
        error = thread_error(self.name)
        supervisor = getattr(self.owner, "supervisor", None)
        if supervisor is not None and not ours:
            supervisor.intruded(error)
        raise error

    # -- asyncio: cancelling ------------------------------------------------------------------------

    def cancel_in_order(self, number: int, cancel: Callable[[Any], bool], msg: Any) -> bool:
        """Cancel a task as anyio does: before tasks with a higher number."""
        if self._ready is None:
            self._ready = deque()
        return cancel_in_order(self._ready, number, cancel, msg)

    # -- asyncio: async generators ------------------------------------------------------------------

    def generator_begins(self, agen: AsyncGenerator[Any, Any]) -> None:
        """One of this run's code: it is kept track of."""
        if self._generators is None:
            self._generators = Generators()
        self._generators.begins(agen)

    def generator_dropped(self, agen: AsyncGenerator[Any, Any], *, collected: bool) -> None:
        """Nobody has it any more, or the garbage collector has found that out."""
        if self._abandoned:
            return
        if self.outer is not None and not collected:  # dropped by workflow code, which replays
            self._close_generator(agen)
        elif self._generators is not None:
            self._generators.keep(agen)

    # -- asyncio: errors ----------------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.silent:
            return
        if self._exception_handler is not None:
            self._exception_handler(self, context)
        else:
            self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        logger.error(
            "run %s: %s",
            self.name,
            context.get("message"),
            exc_info=error if error else None,
            extra={"run_id": self.name},
        )

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    # -- asyncio: state -----------------------------------------------------------------------------

    get_debug: Any = staticmethod(bool)  # False. Each future asks for it, and a frame is a frame

    def is_running(self) -> bool:
        return self.outer is not None

    def is_closed(self) -> bool:
        return self.over

    def __repr__(self) -> str:
        return f"<WorkflowLoop of run {self.name!r}>"
