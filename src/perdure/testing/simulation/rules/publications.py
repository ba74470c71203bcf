"""What must hold of published events."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

import msgspec

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.storage.memory_run import Run
from perdure.testing.simulation.instructions import BATCH, BATCHED, DEBOUNCED, SUBSCRIBERS, TOLD
from perdure.testing.simulation.observer import Observer, Rule

_SUBSCRIBER = {on.name: name for name, (_, on) in SUBSCRIBERS.items()}


class Subscribers(Rule):
    """Of published events and the workflows that they start:

    - An event that was committed after its workflow's subscription is in the input of exactly one run; one from
      before it in none. Whoever distributes, and dies of it.
    - A batch holds at most as many events as its subscription says.
    - Of events that debounce, none is in two runs, and the last one is in a run.
    - A step's attempt that failed has published nothing; nothing that was published is forgotten before it has
      reached everybody.

    What runs get that wait for events is compared where they get it, in `SimulatedBooks.followed`: each event once,
    in the order of publication, also those from before the wait.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._seen: dict[str, tuple[str, str, bool]] = {}  # name, tag, whether it has a subscriber
        self._runs: Counter[tuple[str, str]] = Counter()

    def carried_out(self, verb: str) -> None:
        kept = self._observer.database.publications
        if len(kept.by_id) == len(self._seen):
            return
        for id, one in kept.by_id.items():
            if id not in self._seen and one.name in _SUBSCRIBER:
                payload = msgspec.json.decode(one.payload)
                subscribed = _SUBSCRIBER[one.name] in kept.subscriptions
                self._seen[id] = one.name, payload["tag"], subscribed
                self._observer.counts["published"] += 1
                if payload["attempt"] != 2:
                    self._observer.wrong(f"what a failed attempt of {payload['tag']} published is there")
            elif id not in self._seen:
                self._seen[id] = one.name, "", False

    def created(self, run: Run) -> None:
        if run.workflow not in SUBSCRIBERS or run.generation > 1:
            return
        started = decode_event(run.events[0])
        assert isinstance(started, ev.RunStarted)
        (given,), _ = msgspec.json.decode(started.input)
        told = cast("list[dict[str, Any]]", given if isinstance(given, list) else [given])
        if len(told) > BATCH:
            self._observer.wrong(f"{run.id} has a batch of {len(told)}")
        for one in told:
            self._runs[run.workflow, one["tag"]] += 1
            self._observer.counts["started by events"] += 1

    def is_at_rest(self) -> bool:
        kept = self._observer.database.publications
        return not kept.gatherings and all(one.settled for one in kept.by_id.values())

    def look_back(self) -> None:
        kept = self._observer.database.publications
        for id, (name, tag, subscribed) in self._seen.items():
            if id not in kept.by_id:
                self._observer.wrong(f"the event {name} of {tag} is forgotten")
            if name not in _SUBSCRIBER:
                continue
            number = self._runs[_SUBSCRIBER[name], tag]
            if number > 1 or (name != DEBOUNCED and number != subscribed):
                self._observer.wrong(
                    f"the event {name} of {tag} {'has' if subscribed else 'had no'} subscriber, and is in {number} runs"
                )
        last = max(
            (one for one in kept.by_id.values() if one.name == DEBOUNCED),
            key=lambda one: one.number or 0,
            default=None,
        )
        if last is not None and self._seen[last.id][2]:
            tag = self._seen[last.id][1]
            if self._runs[_SUBSCRIBER[DEBOUNCED], tag] != 1:
                self._observer.wrong(f"the last event to debounce, of {tag}, is in no run")


__all__ = ["BATCHED", "TOLD", "Subscribers"]
