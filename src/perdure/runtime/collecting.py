"""What is collected for a run's next append: events, and what the store is to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.core import events as ev
from perdure.core.finding import UNSET
from perdure.core.machine import Machine
from perdure.core.namespaces import prefix_of
from perdure.runtime.attempt import Reporter
from perdure.runtime.host import Host, appended
from perdure.runtime.journal import Events
from perdure.runtime.withholding import counterfactual
from perdure.storage.effects import Effect
from perdure.storage.records import Append, NewRun
from perdure.storage.scoping.records import effects_within

#: What all runs have collected that have nothing to append; not to be written into.
NO_EVENTS: Events = []


class Collecting:
    """The part of a driver that collects.

    Attributes:
        id: the run's stored id; its code knows the short one.
        known_as: the id by which its steps know their run.
        keys: the generation by which the idempotency keys of its steps are made.
        keys_of: the stored id by which they are made, if that isn't the run's own.
        has_children: child runs have been started, which may have to be told of the run's end.
    """

    id: str
    machine: Machine

    __slots__ = (
        "_buffer", "_children", "_consumed", "_effects", "_last_at", "_riders", "has_children", "host", "id", "keys",
        "keys_of", "known_as",
    )  # fmt: skip

    def __init__(self, host: Host[Any], id: str, last_at: float) -> None:
        self.host = host
        self.id = self.known_as = id
        self.keys = 1
        self.keys_of: str | None = None
        self.has_children = False
        self._last_at = last_at
        self._riders: list[ev.Event] | None = None  # notes that go with the next append, whatever that is
        self._buffer: Events = NO_EVENTS  # events to append next, with their decoded values
        self._children: list[NewRun] | None = None  # runs to create with them
        self._effects: list[Effect] | None = None  # what else the store does with them
        self._consumed: list[int] | None = None  # inbox items taken into them

    def _put(self, event: ev.Event, value: Any) -> None:
        """An event goes with the next append."""
        if self._buffer is NO_EVENTS:
            self._buffer = [(event, value)]
        else:
            self._buffer.append((event, value))

    def write_down(self, event: Any, effects: Sequence[Effect] = (), child: NewRun | None = None) -> None:
        """An event of the code's own making goes with the next append, and what the store does for it."""
        if event.at < self._last_at:
            event = msgspec.structs.replace(event, at=self._last_at)
        self._put(event, UNSET)
        for effect in effects:
            self.add_effect(effect)
        if child is not None:
            self._children = appended(self._children, child)
            self.has_children = True

    def collect(self, event: Any, value: Any, effects: Sequence[Effect] = ()) -> ev.Event:
        """An event goes with the next append, in its place; returned as it is written."""
        at = max(event.at, self._last_at)
        if at > event.at:
            event = msgspec.structs.replace(event, at=at)
        self._last_at = at
        self._put(event, value)
        for effect in effects:
            self.add_effect(effect)
        written: ev.Event = event
        return written

    def add_effect(self, effect: Effect) -> None:
        """Something for the store to do goes with the next append."""
        self._effects = appended(self._effects, effect)

    def ride(self, note: ev.Event) -> None:
        """A note goes with the next append, whatever that is."""
        self._riders = appended(self._riders, note)

    @property
    def streams_of(self) -> int | None:
        """Key of the run into whose streams its steps emit, if that is another one."""
        return None

    @property
    def reporter(self) -> Reporter | None:
        """Who hears of what an attempt has raised, if that isn't decided here."""
        return None

    @property
    def quiet(self) -> bool:
        """What its steps publish isn't published."""
        return counterfactual(self.machine) is not None

    def now(self) -> float:
        """The wall clock's time, or that of the run's newest event if the clock was set back."""
        return max(self.host.clock(), self._last_at)

    def drop(self, number: int) -> None:
        """An inbox item goes with the next append."""
        self._consumed = appended(self._consumed, number)

    def buffered(self) -> int:
        """How many events go with the next append so far."""
        return len(self._buffer)

    def only_records(self) -> bool:
        """Whether what is to be appended next brings nothing to the code: it is of the code's own making."""
        return all(isinstance(event, ev.Record) for event, _ in self._buffer)

    def take_riders(self) -> list[ev.Event]:
        """The notes that wait for the next append."""
        riders, self._riders = self._riders or [], None
        return riders

    def _take_effects(self, append: Append) -> Append:
        """The same append, with all that the store is to do besides."""
        consumed, self._consumed = self._consumed or (), None
        children, self._children = self._children or (), None
        effects, self._effects = self._effects or (), None
        if effects and (prefix := prefix_of(self.id)):
            effects = effects_within(effects, prefix)
        return msgspec.structs.replace(append, consumed=consumed, children=children, effects=effects)
