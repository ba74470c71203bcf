"""How many errands a worker takes: no more than it can execute at once, so that the others of the queue get some.

A run that is claimed mostly waits, so a worker takes what it has memory for. An errand is there to be executed: what
one worker has taken and can't begin would wait while another has nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from perdure.core.errands import step_of
from perdure.runtime.definitions import StepDefinition, drivable, step_named
from perdure.runtime.settings import Settings
from perdure.runtime.steps import StepExecutor

#: With room for so many errands they are claimed together with the runs, by one statement and in one order.
TOGETHER_MIN = 32


class Share(NamedTuple):
    """Workflows of runs, and how many of these a worker may take now."""

    workflows: Sequence[str]
    room: int


class Capacity:
    """Looks at what an executor has to do.

    Attributes:
        queues: those that the worker serves.
        short: there was no room for some errands when it was looked at; more may wait in the store.
    """

    def __init__(self, steps: StepExecutor, settings: Settings) -> None:
        self._steps = steps
        self._settings = settings
        self.queues = settings.queues
        self._freed: Callable[[], None] | None = None
        self._short = False
        self._first = 0

    def hear(self, freed: Callable[[], None]) -> None:
        """Call this whenever a step has ended here while this is `short`."""
        self._freed = freed

    @property
    def short(self) -> bool:
        return self._short

    @short.setter
    def short(self, short: bool) -> None:
        self._short = short
        self._steps.freed = self._freed if short else None  # most workers never are, and steps are many

    def shares(self, limit: int) -> list[Share]:
        """What to claim, at most `limit` of each; runs and errands together while there is much room for these."""
        names = drivable(self.queues)
        errands = [name for name in names if step_of(name) is not None]
        if not errands:
            self.short = False
            return [Share(names, limit)]
        by_place: dict[str, list[str]] = {}
        for name in errands:
            by_place.setdefault(_place(step_named(step_of(name) or "")), []).append(name)
        rooms = self._rooms()
        smallest = min(rooms[place] for place in by_place)
        if smallest >= TOGETHER_MIN:
            self.short = False
            return [Share(names, min(limit, smallest))]
        found = [Share([name for name in names if step_of(name) is None], limit)]
        found += [Share(group, min(limit, rooms[place])) for place, group in by_place.items()]
        self.short = any(share.room == 0 for share in found)
        self._first += 1  # none of them always comes before the others
        order = [*found[self._first % len(found) :], *found[: self._first % len(found)]]
        return [share for share in order if share.room > 0 and share.workflows]

    def _rooms(self) -> dict[str, int]:
        """By where steps execute, how many more can begin at once."""
        settings = self._settings
        left = max(0, settings.concurrency - self._steps.occupied)
        rooms = {"loop": left, "thread": left, "process": left}
        if left:
            counts = dict.fromkeys(rooms, 0)
            for attempt in self._steps.executing:
                counts[_place(attempt.operation.call.definition)] += 1
            rooms["thread"] = max(0, min(left, settings.threads - counts["thread"]))
            rooms["process"] = max(0, min(left, settings.processes - counts["process"]))
        return rooms


def _place(step: StepDefinition | None) -> str:
    if step is None or step.is_async:
        return "loop"
    return "process" if step.process else "thread"
