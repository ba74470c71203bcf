"""`perdure worker --workers N`: as many workers as a machine has processors for, under one process.

That process does no work itself. It hands signals on, starts another worker in the place of one that has ended, and
tells systemd that all of them are ready, and that all of them live, when they have told it so: each gets a socket of
its own in place of systemd's. One that doesn't get ready at first, as its module can't be loaded for instance, ends
them all; the others start once the first is ready.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from perdure.cli.children import Child
from perdure.cli.notifying import notify
from perdure.cli.output import tell

#: Set in each of them: which one it is, from 1.
NUMBER = "PERDURE_WORKER_NUMBER"

_LOOK_EVERY = 0.1  # seconds
#: Pauses before another one starts, in seconds: the first, and the longest, to which it doubles from death to death.
_PAUSE, _PAUSE_MAX = 0.5, 30.0
_LONG = 60.0  # who has lived for so many seconds died of something new


def own_number() -> int:
    """Which of several workers this process is, from 1; 0 if it is the only one. To be asked once.

    What its steps start, such as other workers, is none of them: it doesn't find the number in its environment.
    """
    return int(os.environ.pop(NUMBER, "0"))


def run_crew(arguments: Sequence[str], size: int) -> int:
    """Run `perdure ARGUMENTS` in so many processes, until SIGINT or SIGTERM; a second signal ends them at once.

    Returns:
        The exit code of the first that didn't end well, 0 if all did.
    """
    received: list[int] = []
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, lambda number, _: received.append(number))
    with tempfile.TemporaryDirectory(prefix="perdure-workers-") as folder:
        places = [_Place(arguments, number, Path(folder)) for number in range(1, size + 1)]
        places[0].begin()
        begun = ready = False
        while not received:
            time.sleep(_LOOK_EVERY)  # a signal doesn't shorten it
            for place in places:
                place.look()
            if failed := next((place for place in places if place.failed is not None), None):
                return _end(places, [signal.SIGTERM, *received], failed.failed or 1)
            if not begun and places[0].ready:  # so what is wrong with the program is told once
                begun = True
                for place in places:
                    place.begin()
            if not ready and all(place.ready for place in places):
                ready = True
                notify("READY=1", f"STATUS={size} workers at work.")
                tell(f"{size} workers are at work under process {os.getpid()}.")
            if ready and all(place.beaten or not place.lives() for place in places):
                notify("WATCHDOG=1")
                for place in places:
                    place.beaten = False
        notify("STOPPING=1", "STATUS=Stopping.")
        return _end(places, received, 0)


def _end(places: Sequence[_Place], received: list[int], code: int) -> int:
    """Hand signals on, those that came and those that follow; wait for all."""
    handed = 0
    while any(place.lives() for place in places):
        for another in received[handed:]:
            handed += 1
            for place in places:
                place.signal(another)
        time.sleep(_LOOK_EVERY)
    codes = [code, *(place.last for place in places)]
    return next((128 - found if found < 0 else found for found in codes if found), 0)


class _Place:
    """The place of one worker, in which another starts when it has ended.

    Attributes:
        ready: the one that is there now has got ready.
        beaten: it has shown that it lives since somebody cleared this.
        failed: its exit code, if it has ended before it got ready for the first time.
        last: the exit code of the last one.
    """

    def __init__(self, arguments: Sequence[str], number: int, folder: Path) -> None:
        self._arguments = arguments
        self._number = number
        address = str(folder / str(number))
        self._hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._hears.bind(address)
        self._hears.setblocking(False)
        self._environment = {NUMBER: str(number), "NOTIFY_SOCKET": address, "WATCHDOG_PID": None}
        self.ready = self.beaten = False
        self.failed: int | None = None
        self.last = 0
        self._child: Child | None = None
        self._began = 0.0
        self._pause = _PAUSE
        self._start_at = float("inf")
        self._ever_ready = False

    def begin(self) -> None:
        """Have one start here, if none has."""
        if self._child is None:
            self._start_at = 0.0

    def look(self) -> None:
        """Hear what it says; see whether it has ended; start another when it is time."""
        while (said := self._next()) is not None:
            self.ready = self.ready or b"READY=1" in said
            self._ever_ready = self._ever_ready or self.ready
            self.beaten = self.beaten or b"WATCHDOG=1" in said
        if self.lives():
            return
        if self._child is not None:
            self._buried(self._child.pid)
        elif time.monotonic() >= self._start_at and self.failed is None:
            self._began, self._start_at = time.monotonic(), float("inf")
            self._child = Child(self._arguments, self._environment, apart=True)

    def _next(self) -> bytes | None:
        try:
            return self._hears.recv(4096)
        except BlockingIOError:
            return None

    def _buried(self, pid: int) -> None:
        """One has ended, and nobody has asked for it."""
        self._child = None
        self.ready = self.beaten = False
        if not self._ever_ready:
            self.failed = self.last or 1
            return
        if time.monotonic() - self._began > _LONG:
            self._pause = _PAUSE
        self._start_at = time.monotonic() + self._pause
        how = signal.Signals(-self.last).name if self.last < 0 else f"exit code {self.last}"
        tell(
            f"Worker {self._number}, process {pid}, has ended ({how}). Others take its runs over; "
            f"another one starts in {self._pause:g} s."
        )
        self._pause = min(2 * self._pause, _PAUSE_MAX)
        self.last = 0  # the next one's counts

    def lives(self) -> bool:
        """Whether there is one now."""
        if self._child is None or (code := self._child.poll()) is None:
            return self._child is not None
        self.last = code
        self._child.let_go()
        return False

    def signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)
