"""How PostgreSQL answers what a distribution asks. See storage/distribution.py."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from perdure.storage import conversation as c
from perdure.storage import distribution as algorithm
from perdure.storage.answering import carried_out_by
from perdure.storage.postgres.database import Database
from perdure.storage.postgres.lifecycle import create_runs
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

_EVERYTHING = 1 << 31


async def distribute(db: Database, now: float, sealer: Sealer | None = None) -> Distributed:
    """One distribution, inside a transaction."""
    conversation = algorithm.distribute(now, sealer)
    return await carried_out_by(conversation, lambda ask: _WAYS[type(ask)](db, ask))


async def number_all(db: Database, last: int, now: float) -> int:
    """Number what was published so far, under the lock; returns the highest number."""
    found = await _unnumbered(db, c.Unnumbered(_EVERYTHING))
    if found:
        numbers = numbers_for(found, last, now)
        await _number(db, c.Number(numbers))
        last = numbers[-1][1]
    return last


async def _lock(db: Database, ask: c.Lock) -> c.ToDo | None:
    for row in await db.rows("lock_clock", now=ask.now):
        return c.ToDo(*row)
    return None


async def _unnumbered(db: Database, ask: c.Unnumbered) -> list[str]:
    return [id for (id,) in await db.rows("unnumbered", limit=ask.limit)]


async def _number(db: Database, ask: c.Number) -> None:
    ids, numbers = zip(*ask.numbers, strict=True)
    await db.run("number_publications", ids=list(ids), numbers=json.dumps(dict(ask.numbers)))
    await db.run("set_clock", number=numbers[-1])


async def _new_waits(db: Database, ask: c.NewWaits) -> list[Waiting]:
    return [Waiting(*row) for row in await db.rows("waits_new", limit=ask.limit)]


async def _numbered(db: Database, ask: c.Numbered) -> list[Publication]:
    found = await db.rows("publications_after", name=ask.name, after=ask.after, limit=ask.limit)
    return [Publication(*row) for row in found]


async def _looked_back(db: Database, ask: c.LookedBack) -> None:
    runs, ops = zip(*ask.waits, strict=True)
    await db.run("looked_back", runs=list(runs), ops=list(ops))


async def _unsettled(db: Database, ask: c.Unsettled) -> list[Publication]:
    return [Publication(*row) for row in await db.rows("publications_unsettled", limit=ask.limit)]


async def _shapes(db: Database, ask: c.Shapes) -> list[tuple[Any, ...]]:
    return await db.rows("shapes", names=list(ask.names))


async def _takers(db: Database, ask: c.Takers) -> list[Waiting]:
    run, op = ask.after
    found: list[Waiting] = []
    for match in ask.matches:
        rows = await db.rows("takers", match=match, run=run, op=op, limit=ask.limit)
        found += [Waiting(*row) for row in rows]
    return sorted(found, key=lambda wait: (wait.run, wait.op))[: ask.limit]


async def _deliver(db: Database, ask: c.Deliver) -> None:
    runs, ops = [run for run, _, _ in ask.mail], [op for _, op, _ in ask.mail]
    await db.rows("lock_runs", runs=sorted(set(runs)))
    ended = set(await db.rows("end_waits", runs=runs, ops=ops))
    mail = [(run, data) for run, op, data in ask.mail if (run, op) in ended]
    counts = Counter(run for run, _ in mail)
    if not counts:
        return
    counted = await db.rows(
        "more_mail_many",
        runs=sorted(counts),
        items=[items for _, items in sorted(counts.items())],
        now=float(ask.now),
    )
    newest: dict[int, int] = dict(counted)
    items: list[tuple[int, int, bytes]] = []
    for run, data in mail:
        if run in newest:  # else it has ended
            counts[run] -= 1
            items.append((run, newest[run] - counts[run], data))
    if items:
        given, numbers, payloads = zip(*items, strict=True)
        await db.run("put_mail_many", runs=list(given), numbers=list(numbers), data=list(payloads))


async def _subscriptions(db: Database, ask: c.Subscriptions) -> list[Subscription]:
    rows = await db.rows("subscriptions_to", events=list(ask.events), workflows=list(ask.workflows))
    return [subscription_in(data) for _, data in rows]


async def _settle(db: Database, ask: c.Settle) -> None:
    await db.run("settle_publications", ids=list(ask.ids))


async def _gathering(db: Database, ask: c.GatheringOf) -> Gathering | None:
    found = await db.rows("gathering", workflow=ask.workflow, grp=ask.group)
    return Gathering(*found[0]) if found else None


async def _due(db: Database, ask: c.DueGatherings) -> list[Gathering]:
    return [Gathering(*row) for row in await db.rows("gatherings_due", now=ask.now, limit=ask.limit)]


async def _content(db: Database, ask: c.Content) -> list[Gathered]:
    rows = await db.rows("gathered", workflow=ask.workflow, grp=ask.group, limit=ask.limit)
    return [Gathered(*row) for row in rows]


async def _keep(db: Database, ask: c.Keep) -> None:
    gathering = ask.gathering
    workflow, grp = gathering.workflow, gathering.group
    if ask.dropped:
        await db.run("drop_content", workflow=workflow, grp=grp, upto=ask.dropped)
    if ask.added:
        await db.run(
            "add_content",
            workflow=workflow,
            grp=grp,
            numbers=[item.number for item in ask.added],
            ats=[item.at for item in ask.added],
            payloads=[item.payload for item in ask.added],
        )
    if gathering.count:
        await db.run(
            "keep_gathering",
            workflow=workflow,
            grp=grp,
            due_at=float(gathering.due_at),
            count=gathering.count,
        )
    else:
        await db.run("drop_gathering", workflow=workflow, grp=grp)


async def _start(db: Database, ask: c.Start) -> int:
    made = await create_runs(db, ask.runs, [None] * len(ask.runs))
    return sum(new is not None for new in made)


async def _ids(db: Database, ask: c.Ids) -> dict[int, str]:
    return dict(await db.rows("ids_of", runs=list(ask.runs)))


_WAYS: dict[type[c.Ask], Callable[[Database, Any], Awaitable[Any]]] = {
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
