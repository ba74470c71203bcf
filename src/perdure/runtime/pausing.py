"""What happens to a run while it is paused: it is written down, and kept from the code.

From the moment at which RunPaused is in the history, steps that execute may finish, and their outcomes are
recorded; nothing else begins. Alarms that ring are put off. When nothing executes any more, the run leaves memory
as paused. If it is resumed before that, the code is given all that was kept from it, in the order of the history:
a replay does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from perdure.core import events as ev
from perdure.core.commands import RunStep

#: What ends a pause. Cancelling a run that is held lets it go on, since its code is to clean up.
RESUMING = frozenset({ev.RunResumed, ev.CancelRequested})

#: What begins one, or ends one.
TURNING = frozenset({ev.RunPaused, *RESUMING})


class Work(Protocol):
    """What the run has going."""

    def follow(self, event: ev.Event) -> None: ...


class Run(Protocol):
    """The run's driver."""

    pause: Pause | None

    @property
    def work(self) -> Work: ...
    def give(self, event: ev.Event, value: Any) -> None: ...


class Pause:
    """A pause of one run.

    Attributes:
        reason: why it is paused.
        kept: what is in the history and the code hasn't got, with decoded values.
        put_off: what the clock, or the end of the pause, asks for.
    """

    __slots__ = ("kept", "put_off", "reason")

    def __init__(self, reason: str | None) -> None:
        self.reason = reason
        self.kept: list[tuple[ev.Event, Any]] = []
        self.put_off: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def keep(self, run: Run, event: ev.Event, value: Any) -> None:
        """Keep something from the code until the pause is over; perhaps it is by this."""
        self.kept.append((event, value))
        if isinstance(event, ev.StepStarted):
            run.work.follow(event)  # the step's body waits for nothing but this
        elif type(event) in RESUMING:
            run.pause = None
            for kept in self.kept:
                run.give(*kept)
            for action, args in self.put_off:
                action(*args)

    def begin_later(self, steps: Iterable[RunStep], begin: Callable[..., None]) -> None:
        """These stood in line: they begin when the pause is over."""
        self.put_off += [(begin, (step,)) for step in steps]


def admitted_now(items: Iterable[tuple[int, ev.Event]], *, paused: bool) -> list[tuple[int, ev.Event]]:
    """Of a run's mail, what is taken now. While it is paused the rest queues, up to what resumes it."""
    taken: list[tuple[int, ev.Event]] = []
    queued: list[tuple[int, ev.Event]] = []
    for item in items:
        queued.append(item)
        kind = type(item[1])
        if kind in RESUMING or not paused:
            taken += queued
            queued.clear()
            paused = kind is ev.RunPaused
    return taken


def paused_after(event: ev.Event, before: Pause | None) -> Pause | None:
    """The pause in which a run is after an event that is replayed."""
    if isinstance(event, ev.RunPaused):
        return before or Pause(event.reason)
    return None
