"""What is collected for a run's next append: events, and what the store is to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core.matching import UNSET
from perdure.runtime.host import Host, appended
from perdure.storage.records import Append, Effect, NewRun

#: Events of one append, with their decoded values.
Batch = list[tuple[ev.Event, Any]]


class Collecting:
    """The part of a driver that collects.

    Attributes:
        has_children: child runs have been started, which may have to be told of the run's end.
    """

    __slots__ = (
        "_buffer", "_children", "_consumed", "_effects", "_last_at", "_riders", "has_children", "host",
    )  # fmt: skip

    def __init__(self, host: Host[Any], last_at: float) -> None:
        self.host = host
        self.has_children = False
        self._last_at = last_at
        self._riders: list[ev.Event] | None = None  # notes that go with the next append, whatever that is
        self._buffer: Batch = []  # events to append next, with their decoded values
        self._children: list[NewRun] | None = None  # runs to create with them
        self._effects: list[Effect] | None = None  # what else the store does with them
        self._consumed: list[int] | None = None  # inbox items taken into them

    def write_down(self, event: Any, effects: Sequence[Effect] = (), child: NewRun | None = None) -> None:
        """An event of the code's own making goes with the next append, and what the store does for it."""
        if event.at < self._last_at:
            event = msgspec.structs.replace(event, at=self._last_at)
        self._buffer.append((event, UNSET))
        for effect in effects:
            self.add_effect(effect)
        if child is not None:
            self._children = appended(self._children, child)
            self.has_children = True

    def add_effect(self, effect: Effect) -> None:
        """Something for the store to do goes with the next append."""
        self._effects = appended(self._effects, effect)

    def ride(self, note: ev.Event) -> None:
        """A note goes with the next append, whatever that is."""
        self._riders = appended(self._riders, note)

    def now(self) -> float:
        """The wall clock's time, or that of the run's newest event if the clock was set back."""
        return max(self.host.clock(), self._last_at)

    def _take_events(self) -> Batch:
        events, self._buffer = self._buffer, []
        if self._riders:
            events[:0] = [(note, UNSET) for note in self._riders]
            self._riders = None
        return events

    def _take_effects(self, append: Append) -> Append:
        """The same append, with all that the store is to do besides."""
        consumed, self._consumed = self._consumed or (), None
        children, self._children = self._children or (), None
        effects, self._effects = self._effects or (), None
        return msgspec.structs.replace(append, consumed=consumed, children=children, effects=effects)
