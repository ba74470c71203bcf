"""Publications in PostgreSQL: the verbs, and the effects of appends. See storage/publications.py."""

from __future__ import annotations

from collections.abc import Sequence

from perdure.storage.postgres.database import Database, Row
from perdure.storage.postgres.distribution import distribute, number_all
from perdure.storage.postgres.ways import Ways
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

_ALL = 1 << 62


class PostgresPublications:
    """The verbs, handed to the store's ways."""

    def __init__(self, ways: Ways) -> None:
        self.sealer: Sealer | None = None
        self._ways = ways

    async def publish(self, publications: Sequence[Publication]) -> list[bool]:
        if all(publication.key is None for publication in publications):
            return await self._ways.write(_publish, publications)
        # a transaction of the user's that has published the same key, and goes on, must hold up nobody else
        new = await self._ways.apart(_publish, publications)
        self._ways.changed()
        return new

    async def subscribe(self, subscriptions: Sequence[Subscription], *, now: float) -> None:
        if subscriptions:
            await self._ways.apart(_subscribe, subscriptions, now)

    async def unsubscribe(self, workflow: str) -> bool:
        return await self._ways.apart(_unsubscribe, workflow)

    async def subscriptions(self) -> list[Subscription]:
        return await self._ways.read(_subscriptions)

    async def waiting(self) -> list[tuple[str, str, int]]:
        return await self._ways.read(_waiting)

    async def pending(self, *, now: float) -> Pending:
        return await self._ways.read(_pending, now)

    async def distribute(self, *, now: float) -> Distributed:
        done = await self._ways.apart(distribute, float(now), self.sealer)
        if done.runs or done.mail:
            self._ways.changed()
        return done

    async def find(
        self,
        *,
        name: str | None = None,
        within: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Publication]:
        return await self._ways.read(_find, name, within, before, limit)

    async def forget(self, *, before: int, limit: int) -> int:
        return await self._ways.apart(_forget, before, limit)


# -- effects --------------------------------------------------------------------------------------------


async def publish(db: Database, append: Append, effect: Publish) -> None:
    await _publish(db, [effect.publication])


async def open_wait(db: Database, append: Append, effect: OpenWait) -> None:
    name, fields = effect.name, effect.fields
    if not await db.rows("has_shape", name=name, fields=fields):
        await db.run("add_shape", name=name, fields=fields)
    await db.run(
        "open_wait",
        run=append.run,
        op=effect.op,
        name=name,
        condition=effect.where,
        fields=fields,
        match=effect.match,
        since=float(effect.since),
        after=effect.after,
    )


async def close_wait(db: Database, append: Append, effect: CloseWait) -> None:
    await db.run("close_wait", run=append.run, op=effect.op)


async def close_waits(db: Database, append: Append, effect: CloseWaits) -> None:
    await db.run("close_waits", run=append.run)


# -- in a transaction -----------------------------------------------------------------------------------


async def _publish(db: Database, publications: Sequence[Publication]) -> list[bool]:
    new: list[bool] = []
    for publication in publications:
        made = await db.run(
            "publish",
            id=publication.id,
            name=publication.name,
            key=publication.key,
            payload=publication.payload,
            at=float(publication.at),
        )
        new.append(made == 1)
    return new


async def _subscribe(db: Database, subscriptions: Sequence[Subscription], now: float) -> None:
    last: int = await db.value("wait_for_clock")  # so that of two workers the second sees the first one's
    known = {subscription.workflow: subscription for subscription in await _subscriptions(db)}
    if not all(continues(subscription, known) for subscription in subscriptions):
        last = await number_all(db, last, now)
    for subscription in subscriptions:
        made = following(subscription, known.get(subscription.workflow), last, now)
        if made != known.get(subscription.workflow):
            data = encode_subscription(made)
            await db.run("put_subscription", workflow=made.workflow, event=made.event, data=data)


async def _unsubscribe(db: Database, workflow: str) -> bool:
    await db.rows("wait_for_clock")
    await db.run("drop_gatherings", workflow=workflow)
    await db.run("drop_gathered", workflow=workflow)
    return await db.run("drop_subscription", workflow=workflow) == 1


async def _subscriptions(db: Database) -> list[Subscription]:
    return [subscription_in(data) for (data,) in await db.rows("subscriptions")]


async def _waiting(db: Database) -> list[tuple[str, str, int]]:
    return [(name, condition, count) for name, condition, count in await db.rows("waiting")]


async def _pending(db: Database, now: float) -> Pending:
    ((waits, next_at),) = await db.rows("publications_pending")
    return Pending(waits or (next_at is not None and next_at <= now), next_at)


async def _find(
    db: Database, name: str | None, within: str | None, before: int | None, limit: int
) -> list[Publication]:
    new: list[Row] = []
    upto = _ALL if before is None else before
    if name is None and within is not None:
        mark = within.removesuffix("/")
        if before is None:
            new = await db.rows("publications_new_within", mark=mark, limit=limit)
        numbered = await db.rows("publications_within", mark=mark, before=upto, limit=limit)
    elif name is None:
        if before is None:
            new = await db.rows("publications_new", limit=limit)
        numbered = await db.rows("publications_numbered", before=upto, limit=limit)
    else:
        if before is None:
            new = await db.rows("publications_new_named", name=name, limit=limit)
        numbered = await db.rows("publications_named", name=name, before=upto, limit=limit)
    return newest_first([Publication(*row) for row in new], [Publication(*row) for row in numbered], limit)


async def _forget(db: Database, before: int, limit: int) -> int:
    return await db.run("forget_publications", before=before, limit=limit)
