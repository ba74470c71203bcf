"""Publications in a memory database: the verbs, the effects of appends, and what a distribution asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from perdure.storage import conversation as c
from perdure.storage import distribution as algorithm
from perdure.storage.answering import carried_out
from perdure.storage.publications import (
    CloseWait,
    CloseWaits,
    Distributed,
    Gathered,
    Gathering,
    OpenWait,
    Pending,
    Publication,
    Publish,
    Sealer,
    Subscription,
    Waiting,
    continues,
    following,
    numbers_for,
)
from perdure.storage.records import Append


class _Wait(msgspec.Struct):
    """A wait, and whether it has yet to look back."""

    waiting: Waiting
    match: bytes
    fresh: bool = True


class Publications:
    """What a memory database holds of them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Publication] = {}
        self.last = 0
        self.waits: dict[tuple[int, str], _Wait] = {}
        self.shapes: set[tuple[str, str]] = set()
        self.subscriptions: dict[str, Subscription] = {}
        self.gatherings: dict[tuple[str, str], Gathering] = {}
        self.gathered: dict[tuple[str, str], dict[int, Gathered]] = {}

    def publish(self, publication: Publication) -> bool:
        return self.by_id.setdefault(publication.id, publication) is publication

    def open_wait(self, run: int, effect: OpenWait) -> None:
        self.shapes.add((effect.name, effect.fields))
        waiting = Waiting(run, effect.op, effect.name, effect.where, effect.since, effect.after)
        self.waits[run, effect.op] = _Wait(waiting, effect.match)

    def close_waits(self, run: int) -> None:
        for place in [place for place in self.waits if place[0] == run]:
            del self.waits[place]

    def waits_of(self, run: int) -> list[tuple[int, str, str, str, float, int]]:
        waits = [wait.waiting for wait in self.waits.values() if wait.waiting.run == run]
        return [(run, wait.op, wait.name, wait.where, float(wait.since), wait.after) for wait in waits]

    def new(self) -> list[Publication]:
        """Those without a number, the oldest first."""
        new = [publication for publication in self.by_id.values() if publication.number is None]
        return sorted(new, key=lambda publication: (publication.at, publication.id))

    def numbered(self) -> list[tuple[int, Publication]]:
        """Those with a number, in order."""
        with_number = [(one.number, one) for one in self.by_id.values() if one.number is not None]
        return sorted(with_number, key=lambda item: item[0])

    def number(self, numbers: Sequence[tuple[str, int]]) -> None:
        for id, number in numbers:
            self.by_id[id] = msgspec.structs.replace(self.by_id[id], number=number)
            self.last = number


# -- effects --------------------------------------------------------------------------------------------


def publish(db: Any, append: Append, effect: Publish) -> None:
    db.publications.publish(effect.publication)


def open_wait(db: Any, append: Append, effect: OpenWait) -> None:
    db.publications.open_wait(append.run, effect)


def close_wait(db: Any, append: Append, effect: CloseWait) -> None:
    db.publications.waits.pop((append.run, effect.op), None)


def close_waits(db: Any, append: Append, effect: CloseWaits) -> None:
    db.publications.close_waits(append.run)


# -- verbs ----------------------------------------------------------------------------------------------


class MemoryPublications:
    """See PublicationStore.

    Args:
        database: gives the MemoryDatabase, while the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Any], changed: Callable[[], None]) -> None:
        self.sealer: Sealer | None = None
        self._database = database
        self._changed = changed

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        new = [self._kept.publish(publication) for publication in publications]
        self._changed()
        return new

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        kept = self._kept
        if not all(continues(subscription, kept.subscriptions) for subscription in subscriptions):
            kept.number(numbers_for([one.id for one in kept.new()], kept.last, now))
        for subscription in subscriptions:
            standing = kept.subscriptions.get(subscription.workflow)
            kept.subscriptions[subscription.workflow] = following(subscription, standing, kept.last, now)
        self._changed()

    async def unsubscribe(self, workflow: str) -> bool:
        kept = self._kept
        kept.gatherings = {place: row for place, row in kept.gatherings.items() if place[0] != workflow}
        kept.gathered = {place: row for place, row in kept.gathered.items() if place[0] != workflow}
        return kept.subscriptions.pop(workflow, None) is not None

    async def subscriptions(self) -> list[Subscription]:
        subscriptions = self._kept.subscriptions
        return [subscriptions[workflow] for workflow in sorted(subscriptions)]

    async def waiting(self) -> list[tuple[str, str, int]]:
        counts: dict[tuple[str, str], int] = {}
        for wait in self._kept.waits.values():
            place = wait.waiting.name, wait.waiting.where
            counts[place] = counts.get(place, 0) + 1
        return [(*place, count) for place, count in sorted(counts.items())][:1000]

    async def pending(self, *, now: float) -> Pending:
        kept = self._kept
        if self._database().move is not None:
            return Pending(False, None)
        waits = any(wait.fresh for wait in kept.waits.values())
        unsettled = any(not publication.settled for publication in kept.by_id.values())
        next_at = min((row.due_at for row in kept.gatherings.values()), default=None)
        return Pending(waits or unsettled or (next_at is not None and next_at <= now), next_at)

    async def distribute(self, *, now: float) -> Distributed:
        conversation = algorithm.distribute(now, self.sealer)
        done = carried_out(conversation, lambda ask: _WAYS[type(ask)](self._database(), ask))
        if not done.busy:
            self._changed()
        return done

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        kept = self._kept

        def wanted(one: Publication) -> bool:
            return name == one.name or (name is None and one.name.startswith(within or ""))

        found = [] if before is not None else [*filter(wanted, kept.new())][:limit][::-1]
        older = [one for number, one in reversed(kept.numbered()) if before is None or number < before]
        return [*found, *filter(wanted, older)][:limit]

    async def forget(self, *, before: int, limit: int) -> int:
        kept = self._kept
        old = [one.id for number, one in kept.numbered() if number < before and one.settled][:limit]
        for id in old:
            del kept.by_id[id]
        return len(old)

    @property
    def _kept(self) -> Publications:
        kept: Publications = self._database().publications
        return kept


# -- what a distribution asks ---------------------------------------------------------------------------


def _lock(db: Any, ask: c.Lock) -> c.ToDo | None:
    kept: Publications = db.publications
    if db.move is not None:
        return None
    return c.ToDo(
        kept.last,
        new=any(one.number is None for one in kept.by_id.values()),
        waits=any(wait.fresh for wait in kept.waits.values()),
        unsettled=any(not one.settled for one in kept.by_id.values()),
        due=any(row.due_at <= ask.now for row in kept.gatherings.values()),
        subscribed=bool(kept.subscriptions),
    )


def _unnumbered(db: Any, ask: c.Unnumbered) -> list[str]:
    return [one.id for one in db.publications.new()[: ask.limit]]


def _number(db: Any, ask: c.Number) -> None:
    db.publications.number(ask.numbers)


def _new_waits(db: Any, ask: c.NewWaits) -> list[Waiting]:
    waits: dict[tuple[int, str], _Wait] = db.publications.waits
    return [wait.waiting for _, wait in sorted(waits.items(), key=lambda item: item[0]) if wait.fresh][
        : ask.limit
    ]


def _numbered(db: Any, ask: c.Numbered) -> list[Publication]:
    found = [one for number, one in db.publications.numbered() if number > ask.after and one.name == ask.name]
    return found[: ask.limit]


def _looked_back(db: Any, ask: c.LookedBack) -> None:
    for place in ask.waits:
        db.publications.waits[place].fresh = False


def _unsettled(db: Any, ask: c.Unsettled) -> list[Publication]:
    return [one for _, one in db.publications.numbered() if not one.settled][: ask.limit]


def _shapes(db: Any, ask: c.Shapes) -> list[tuple[str, str]]:
    return sorted(shape for shape in db.publications.shapes if shape[0] in ask.names)


def _takers(db: Any, ask: c.Takers) -> list[Waiting]:
    waits: dict[tuple[int, str], _Wait] = db.publications.waits
    found = sorted(
        place
        for place, wait in waits.items()
        if not wait.fresh and wait.match in ask.matches and place > ask.after
    )
    return [waits[place].waiting for place in found[: ask.limit]]


def _deliver(db: Any, ask: c.Deliver) -> None:
    for run, op, data in ask.mail:
        if db.publications.waits.pop((run, op), None) is not None:
            db.deliver(db.runs[run], data, ask.now)


def _subscriptions(db: Any, ask: c.Subscriptions) -> list[Subscription]:
    kept = sorted(db.publications.subscriptions.items())
    return [one for workflow, one in kept if one.event in ask.events or workflow in ask.workflows]


def _settle(db: Any, ask: c.Settle) -> None:
    by_id = db.publications.by_id
    for id in ask.ids:
        by_id[id] = msgspec.structs.replace(by_id[id], settled=True)


def _gathering(db: Any, ask: c.GatheringOf) -> Gathering | None:
    found: Gathering | None = db.publications.gatherings.get((ask.workflow, ask.group))
    return found


def _due(db: Any, ask: c.DueGatherings) -> list[Gathering]:
    due = [row for row in db.publications.gatherings.values() if row.due_at <= ask.now]
    return sorted(due, key=lambda row: (row.due_at, row.workflow, row.group))[: ask.limit]


def _content(db: Any, ask: c.Content) -> list[Gathered]:
    content: dict[int, Gathered] = db.publications.gathered.get((ask.workflow, ask.group), {})
    return [content[number] for number in sorted(content)][: ask.limit]


def _keep(db: Any, ask: c.Keep) -> None:
    kept: Publications = db.publications
    place = ask.gathering.workflow, ask.gathering.group
    content = kept.gathered.setdefault(place, {})
    for number in [number for number in content if number <= ask.dropped]:
        del content[number]
    content.update({item.number: item for item in ask.added})
    if ask.gathering.count:
        kept.gatherings[place] = ask.gathering
    else:
        kept.gatherings.pop(place, None)
        kept.gathered.pop(place, None)


def _start(db: Any, ask: c.Start) -> int:
    return sum(db.create(run, None) is not None for run in ask.runs)


def _ids(db: Any, ask: c.Ids) -> dict[int, str]:
    return {run: db.runs[run].id for run in ask.runs}


_WAYS: dict[type[c.Ask], Callable[[Any, Any], Any]] = {
    c.Lock: _lock,
    c.Unnumbered: _unnumbered,
    c.Number: _number,
    c.NewWaits: _new_waits,
    c.Numbered: _numbered,
    c.LookedBack: _looked_back,
    c.Unsettled: _unsettled,
    c.Shapes: _shapes,
    c.Takers: _takers,
    c.Deliver: _deliver,
    c.Subscriptions: _subscriptions,
    c.Settle: _settle,
    c.GatheringOf: _gathering,
    c.DueGatherings: _due,
    c.Content: _content,
    c.Keep: _keep,
    c.Start: _start,
    c.Ids: _ids,
}
