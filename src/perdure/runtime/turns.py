"""The frame around each turn of workflow code: the guard is up, and the turn can't last for ever.

A turn runs on the event loop's thread, so code that never awaits would stop every other run. One watchdog
thread per engine looks at the clock; past the turn limit it marks the run's loop as interrupted and raises
TurnInterrupt in the thread (CPython's PyThreadState_SetAsyncExc), which arrives at the next bytecode. While the
thread is in a callback of a weak reference it waits for a better moment: the interpreter only prints what is raised
there.
"""

from __future__ import annotations

import ctypes
import inspect
import logging
import os
import sys
import threading
import time
import traceback
import weakref

from perdure.core.loop import WorkflowLoop
from perdure.core.machine import Machine
from perdure.runtime import guard

logger = logging.getLogger("perdure.turns")

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

#: Where the callbacks of weak collections are.
_WEAK = frozenset({weakref.__file__, inspect.getfile(weakref.WeakSet)})

_NEVER = float("inf")

#: So often in a row the watchdog must have seen a turn: if the whole process was stopped, that isn't the code's fault.
LOOKS = 5

_set_async_exc = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async_exc.argtypes = (ctypes.c_ulong, ctypes.py_object)
_set_async_exc.restype = ctypes.c_int


class TurnInterrupt(BaseException):
    """Raised into workflow code that has run past the turn limit."""


class Turns:
    """Opens and closes turns: `with turns.of(machine): machine.feed(...)`.

    A turn ends without taking the lock, which would be a hundredth of a step's CPU: its end sets `_since` and then
    looks at `_aiming`, while the watchdog sets `_aiming` and then looks at `_since`. So one of them sees the other.

    Args:
        limit: longest turn in seconds, None for no limit.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._loop: WorkflowLoop | None = None
        self._guarded = False
        self._since = _NEVER
        self._aiming = False  # the watchdog is about to fire, or has fired
        self._thread = threading.get_ident()
        self._stop = threading.Event()
        self.place = ""  #: where the last interrupted code was
        if limit is not None:
            threading.Thread(target=self._watch, args=(limit,), name="perdure-turns", daemon=True).start()

    def of(self, machine: Machine, guarded: bool) -> Turns:
        """Begin the next turn (there is only one at a time)."""
        self._loop = machine.loop
        self._guarded = guarded
        self._since = time.monotonic()
        if guarded:
            guard.guarded[self._thread] = True
        return self

    def __enter__(self) -> None: ...

    def again(self) -> None:
        """Another turn of the same machine begins, in the same frame."""
        self._since = time.monotonic()

    def over(self, *error: object) -> None:
        """End the turn. Whoever catches a TurnInterrupt calls this again: it may have arrived in here."""
        if (loop := self._loop) is None:
            return
        self._since = _NEVER  # from here on the watchdog doesn't begin to aim
        if self._aiming:
            with self._lock:  # what it has fired doesn't arrive
                self._aiming = False
                _set_async_exc(self._thread, ctypes.py_object())  # NULL takes back what hasn't arrived
        if self._guarded:
            guard.guarded.pop(self._thread, None)
        if loop.outer is not None:  # something has cut a drain short, or many were in one frame
            loop.leave()
        self._loop = None

    __exit__ = over

    def close(self) -> None:
        self._stop.set()

    def _too_long(self, limit: float) -> bool:
        return self._loop is not None and time.monotonic() - self._since >= limit

    def _watch(self, limit: float) -> None:
        pause = limit / 10
        sightings = Sightings()
        while not self._stop.wait(pause):
            if not sightings.often(self._since) or not self._too_long(limit):
                continue
            with self._lock:
                self._aiming = True
                loop = self._loop
                if loop is None or not self._too_long(limit) or _in_callback(self._thread):
                    self._aiming = False
                    continue
                self.place = _place(self._thread)
                logger.error(
                    "run %s has run for over %s s without awaiting; %s",
                    loop.name,
                    limit,
                    self.place,
                    extra={"run_id": loop.name},
                )
                loop.interrupted = True
                _set_async_exc(self._thread, ctypes.py_object(TurnInterrupt))


class Sightings:
    """How often in a row the same turn was seen. It is known by when it began."""

    def __init__(self) -> None:
        self._turn = _NEVER
        self._times = 0

    def often(self, turn: float) -> bool:
        self._times = self._times + 1 if turn == self._turn else 1
        self._turn = turn
        return self._times >= LOOKS


def _in_callback(thread: int) -> bool:
    frame = sys._current_frames().get(thread)
    return frame is not None and frame.f_code.co_filename in _WEAK


def _place(thread: int) -> str:
    frame = sys._current_frames().get(thread)
    if frame is None:
        return ""
    stack = [entry for entry in traceback.extract_stack(frame) if not entry.filename.startswith(_HERE)]
    return f"it is at {stack[-1].filename}:{stack[-1].lineno}, in {stack[-1].name}" if stack else ""
