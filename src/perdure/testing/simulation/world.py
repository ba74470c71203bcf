"""One thread, one virtual time, and in it any number of simulated processes.

Each process has an event loop of its own, as asyncio promises it: callbacks in the order in which they were asked
for, timers by their time. Which process gets the next turn is drawn, so everything that real processes could do between
each other's turns happens at some seed. Nothing ever waits: when no process has anything to do, time jumps to the next
timer.

A process can be frozen (it misses time, as after SIGSTOP) or killed: then its loop never turns again, and no `finally`
of it runs, as after SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from asyncio import events as _events
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from perdure.core.futures import NumberedFuture, NumberedTask
from perdure.core.handles import Handle, TimerHandle

_copy_context = contextvars.copy_context

#: Seconds that a turn of a loop takes at most.
_TURN = 0.00005

#: How probable it is that a process gets another turn before others do. They meet only in the database.
_ANOTHER = 0.8

#: Seconds that a function in a thread takes at most, beside its work.
_THREAD = 0.002


class World:
    """Virtual time, and whose turn it is.

    Args:
        chance: draws the turns.

    Attributes:
        now: seconds since the beginning.
        running: the process that has its turn.
        turns: how many there have been.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.now = 0.0
        self.running: ProcessLoop | None = None
        self.turns = 0
        self._made = 0
        self._loops: list[ProcessLoop] = []

    def process(self, name: str) -> ProcessLoop:
        """Another process."""
        self._made += 1
        concrete: Any = ProcessLoop  # what it lacks of asyncio's interface, nobody here may use
        loop: ProcessLoop = concrete(self, name, self._made, random.Random(self._chance.random()))  # noqa: S311
        self._loops.append(loop)
        return loop

    def forget(self, loop: ProcessLoop) -> None:
        """A process that has ended needs no more looks."""
        self._loops.remove(loop)

    def end(self) -> None:
        """Nothing goes on any more."""
        for loop in self._loops:
            loop.kill()

    def run(self, until: Callable[[], bool], deadline: float) -> None:
        """Let everything go on until a condition holds, or it is that late."""
        while not until():
            now = self.now
            ready = [
                loop
                for loop in self._loops
                if (loop._ready or (loop._timers and loop._timers[0][0] <= now)) and loop.frozen_until <= now
            ]
            if not ready:
                due = min((loop.next_due() for loop in self._loops), default=deadline)
                self.now = max(self.now, min(due, deadline))
                ready = [loop for loop in self._loops if loop.is_ready()]
            if self.now >= deadline:
                return
            if ready:
                self._turn(ready[0] if len(ready) == 1 else self._chance.choice(ready))

    def _turn(self, loop: ProcessLoop) -> None:
        self.running = loop
        _events._set_running_loop(loop)
        try:
            while True:
                self.turns += 1
                loop.turn()
                draw = self._chance.random()
                self.now += draw * _TURN
                if draw > _ANOTHER or not loop.is_ready():
                    return
        finally:
            _events._set_running_loop(None)
            self.running = None


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process.

    Attributes:
        name: who it is, in the log.
        number: counts the world's processes.
        frozen_until: it gets no turn before that time.
        dead: it never gets one again.
        complaint: called with what asyncio's exception handler is called with.
    """

    def __init__(self, world: World, name: str, number: int, chance: random.Random) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.frozen_until = 0.0
        self.dead = False
        self.complaint: Callable[[dict[str, Any]], None] = lambda context: None
        self._chance = chance
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._numbers = number << 32  # hashes of tasks: the same in every process of the real world

    # -- turns --------------------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether it has something to do now."""
        now = self.world.now
        if self.dead or self.frozen_until > now:
            return False
        return bool(self._ready) or (bool(self._timers) and self._timers[0][0] <= now)

    def next_due(self) -> float:
        """When it has something to do, if nothing else happens."""
        if self.dead:
            return float("inf")
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        due = self.world.now if self._ready else self._timers[0][0] if self._timers else float("inf")
        return max(due, self.frozen_until)

    def turn(self) -> None:
        """Run what is ready; what that makes ready waits for the next turn."""
        now = self.world.now
        ready, timers = self._ready, self._timers
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                timer._fired = True
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio does: a callback's error ends only the callback
                self.call_exception_handler({"message": "exception in a callback", "exception": error})
            if self.dead or self.frozen_until > now:
                return

    def kill(self) -> None:
        """It is gone, in the middle of whatever it does. What it had is kept: nothing of it is to be unwound."""
        self.dead = True

    # -- asyncio: callbacks and time ----------------------------------------------------------------

    def time(self) -> float:
        return self.world.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, _copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self.call_at(self.world.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        context = _copy_context() if context is None else context
        timer = TimerHandle(callback, args, context, id="", _when=when, _owner=None)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, timer))
        return timer

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """There are no threads: it is called after a while, in a turn of its own."""
        future = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked
                future.set_exception(error)

        self.call_later(self._chance.random() * _THREAD, work)
        return future

    # -- asyncio: futures and tasks -----------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        self._numbers += 1
        return NumberedFuture(self._numbers, loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: contextvars.Context | None = None, **kwargs: Any
    ) -> asyncio.Task[Any]:
        self._numbers += 1
        context = _copy_context() if context is None else context
        return NumberedTask(
            self._numbers, coro, context, loop=self, name=None if name is None else str(name), **kwargs
        )

    def get_task_factory(self) -> None:
        return None

    # -- asyncio: errors and state ------------------------------------------------------------------

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.complaint(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.world.running is self

    def is_closed(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<ProcessLoop {self.name}>"
