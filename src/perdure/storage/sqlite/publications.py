"""Publications in SQLite: the verbs, and the effects of appends. See storage/publications.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.storage.publications import (
    CloseWait,
    CloseWaits,
    Distributed,
    OpenWait,
    Pending,
    Publication,
    Publish,
    Sealer,
    Subscription,
    continues,
    encode_subscription,
    following,
    newest_first,
    subscription_in,
)
from perdure.storage.records import Append
from perdure.storage.sqlite.database import Database, Row, Value
from perdure.storage.sqlite.distribution import distribute, number_all, publication_row

_ALL = 1 << 62


class SqlitePublications:
    """See PublicationStore.

    Args:
        write, read: hand a verb to the store's writer, or reader.
    """

    def __init__(self, write: Callable[..., Awaitable[Any]], read: Callable[..., Awaitable[Any]]) -> None:
        self.sealer: Sealer | None = None
        self._write = write
        self._read = read

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        new: list[bool] = await self._write(_publish, publications)
        return new

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        await self._write(_subscribe, subscriptions, now)

    async def unsubscribe(self, workflow: str) -> bool:
        done: bool = await self._write(_unsubscribe, workflow)
        return done

    async def subscriptions(self) -> list[Subscription]:
        found: list[Subscription] = await self._read(_subscriptions)
        return found

    async def waiting(self) -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = await self._read(_waiting)
        return found

    async def pending(self, *, now: float) -> Pending:
        found: Pending = await self._read(_pending, now)
        return found

    async def distribute(self, *, now: float) -> Distributed:
        done: Distributed = await self._write(distribute, now, self.sealer)
        return done

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        found: list[Publication] = await self._read(_find, name, within, before, limit)
        return found

    async def forget(self, *, before: int, limit: int) -> int:
        gone: int = await self._write(_forget, before, limit)
        return gone


# -- effects --------------------------------------------------------------------------------------------


def publish(db: Database, append: Append, effect: Publish) -> None:
    _publish(db, [effect.publication])


def open_wait(db: Database, append: Append, effect: OpenWait) -> None:
    shape = {"name": effect.name, "fields": effect.fields}
    db.run("add_shape", shape)
    db.run(
        "open_wait",
        {
            **shape,
            "run": append.run,
            "op": effect.op,
            "condition": effect.where,
            "match": effect.match,
            "since": effect.since,
            "after": effect.after,
        },
    )


def close_wait(db: Database, append: Append, effect: CloseWait) -> None:
    db.run("close_wait", {"run": append.run, "op": effect.op})


def close_waits(db: Database, append: Append, effect: CloseWaits) -> None:
    db.run("close_waits", {"run": append.run})


# -- on a thread's connection ---------------------------------------------------------------------------


def _publish(db: Database, publications: Sequence[Publication]) -> list[bool]:
    return [
        db.run(
            "publish",
            {
                "id": publication.id,
                "name": publication.name,
                "key": publication.key,
                "payload": publication.payload,
                "at": float(publication.at),
            },
        )
        == 1
        for publication in publications
    ]


def _subscribe(db: Database, subscriptions: Sequence[Subscription], now: float) -> None:
    known = {subscription.workflow: subscription for subscription in _subscriptions(db)}
    last = 0
    if not all(continues(subscription, known) for subscription in subscriptions):
        last = number_all(db, now)
    for subscription in subscriptions:
        made = following(subscription, known.get(subscription.workflow), last, now)
        if made != known.get(subscription.workflow):
            data = encode_subscription(made)
            db.run("put_subscription", {"workflow": made.workflow, "event": made.event, "data": data})


def _unsubscribe(db: Database, workflow: str) -> bool:
    db.run("drop_gatherings", {"workflow": workflow})
    db.run("drop_gathered", {"workflow": workflow})
    return db.run("drop_subscription", {"workflow": workflow}) == 1


def _subscriptions(db: Database) -> list[Subscription]:
    return [subscription_in(data) for (data,) in db.rows("subscriptions")]


def _waiting(db: Database) -> list[tuple[str, str, int]]:
    return [(name, condition, count) for name, condition, count in db.rows("waiting")]


def _pending(db: Database, now: float) -> Pending:
    ((waits, next_at),) = db.rows("publications_pending")
    return Pending(bool(waits) or (next_at is not None and next_at <= now), next_at)


def _find(
    db: Database, name: str | None, within: str | None, before: int | None, limit: int
) -> list[Publication]:
    bindings: dict[str, Value] = {"limit": limit, "name": name, "within": within, "before": _ALL}
    fresh, older = "publications_new", "publications_numbered"
    if name is not None:
        fresh, older = "publications_new_named", "publications_named"
    elif within is not None:
        fresh, older = "publications_new_within", "publications_within"
    new: list[Row] = db.rows(fresh, bindings) if before is None else []
    numbered = db.rows(older, bindings if before is None else {**bindings, "before": before})
    return newest_first([*map(publication_row, new)], [*map(publication_row, numbered)], limit)


def _forget(db: Database, before: int, limit: int) -> int:
    return db.run("forget_publications", {"before": before, "limit": limit})
