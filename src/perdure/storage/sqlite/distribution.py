"""How SQLite answers what a distribution asks. See storage/distribution.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.storage import conversation as c
from perdure.storage import distribution as algorithm
from perdure.storage.answering import carried_out
from perdure.storage.publications import (
    Distributed,
    Gathered,
    Gathering,
    Publication,
    Sealer,
    Subscription,
    Waiting,
    numbers_for,
    subscription_in,
)
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.lifecycle import create_runs, deliver
from perdure.storage.sqlite.rows import as_json


def distribute(db: Database, now: float, sealer: Sealer | None = None) -> Distributed:
    """One distribution, inside a transaction of the writer."""
    conversation = algorithm.distribute(now, sealer)
    return carried_out(conversation, lambda ask: _WAYS[type(ask)](db, ask))


def number_all(db: Database, now: float) -> int:
    """Number what was published so far; returns the highest number."""
    last: int = db.value("publication_number")
    found = _unnumbered(db, c.Unnumbered(-1))
    if found:
        numbers = numbers_for(found, last, now)
        _number(db, c.Number(numbers))
        last = numbers[-1][1]
    return last


def _lock(db: Database, ask: c.Lock) -> c.ToDo | None:
    for number, *there in db.rows("lock_clock", {"now": ask.now}):
        return c.ToDo(number, *map(bool, there))
    return None


def _unnumbered(db: Database, ask: c.Unnumbered) -> list[str]:
    return [id for (id,) in db.rows("unnumbered", {"limit": ask.limit})]


def _number(db: Database, ask: c.Number) -> None:
    db.many("number_publication", [(number, id) for id, number in ask.numbers])
    db.run("set_clock", {"number": ask.numbers[-1][1]})


def _new_waits(db: Database, ask: c.NewWaits) -> list[Waiting]:
    return [Waiting(*row) for row in db.rows("waits_new", {"limit": ask.limit})]


def _numbered(db: Database, ask: c.Numbered) -> list[Publication]:
    return _publications(db, "publications_after", name=ask.name, after=ask.after, limit=ask.limit)


def _looked_back(db: Database, ask: c.LookedBack) -> None:
    db.many("looked_back", ask.waits)


def _unsettled(db: Database, ask: c.Unsettled) -> list[Publication]:
    return _publications(db, "publications_unsettled", limit=ask.limit)


def _shapes(db: Database, ask: c.Shapes) -> list[tuple[Any, ...]]:
    return db.rows("shapes", {"names": as_json(ask.names)})


def _takers(db: Database, ask: c.Takers) -> list[Waiting]:
    run, op = ask.after
    found: list[Waiting] = []
    for match in ask.matches:
        bindings: dict[str, Value] = {"match": match, "run": run, "op": op, "limit": ask.limit}
        found += [Waiting(*row) for row in db.rows("takers", bindings)]
    return sorted(found, key=lambda wait: (wait.run, wait.op))[: ask.limit]


def _deliver(db: Database, ask: c.Deliver) -> None:
    for run, op, data in ask.mail:
        if db.run("close_wait", {"run": run, "op": op}):
            deliver(db, run, data, ask.now)


def _subscriptions(db: Database, ask: c.Subscriptions) -> list[Subscription]:
    wanted = {"events": as_json(ask.events), "workflows": as_json(ask.workflows)}
    return [subscription_in(data) for _, data in db.rows("subscriptions_to", wanted)]


def _settle(db: Database, ask: c.Settle) -> None:
    db.many("settle_publication", [(id,) for id in ask.ids])


def _gathering(db: Database, ask: c.GatheringOf) -> Gathering | None:
    found = db.rows("gathering", {"workflow": ask.workflow, "grp": ask.group})
    return Gathering(*found[0]) if found else None


def _due(db: Database, ask: c.DueGatherings) -> list[Gathering]:
    return [Gathering(*row) for row in db.rows("gatherings_due", {"now": ask.now, "limit": ask.limit})]


def _content(db: Database, ask: c.Content) -> list[Gathered]:
    bindings: dict[str, Value] = {"workflow": ask.workflow, "grp": ask.group, "limit": ask.limit}
    return [Gathered(*row) for row in db.rows("gathered", bindings)]


def _keep(db: Database, ask: c.Keep) -> None:
    gathering = ask.gathering
    place = {"workflow": gathering.workflow, "grp": gathering.group}
    if ask.dropped:
        db.run("drop_content", {**place, "upto": ask.dropped})
    db.many(
        "add_content",
        [(*place.values(), item.number, item.at, item.payload) for item in ask.added],
    )
    if gathering.count:
        db.run("keep_gathering", {**place, "due_at": gathering.due_at, "count": gathering.count})
    else:
        db.run("drop_gathering", place)


def _start(db: Database, ask: c.Start) -> int:
    return sum(create_runs(db, ask.runs))


def _ids(db: Database, ask: c.Ids) -> dict[int, str]:
    return dict(db.rows("ids_of", {"runs": as_json(ask.runs)}))


def publication_row(row: Row) -> Publication:
    id, name, key, payload, at, number, settled = row
    return Publication(id, name, key, payload, at, number, bool(settled))


def _publications(db: Database, query: str, **bindings: Any) -> list[Publication]:
    return [publication_row(row) for row in db.rows(query, bindings)]


_WAYS: dict[type[c.Ask], Callable[[Database, Any], Any]] = {
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
