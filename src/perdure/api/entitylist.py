"""Entities from outside (`engine.entities`): which kinds there are, which of each, and how large their states are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from perdure.api.connection import Connection
from perdure.api.listing import place_of
from perdure.api.runinfo import moment_of
from perdure.core.status import Status
from perdure.errors import UndecodableError, UsageError
from perdure.runtime.entities import last_state
from perdure.storage.records import History

SIZE_MAX = 200  #: entities on a page


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityKind:
    """A class of entities.

    Attributes:
        name: its durable name.
        count: how many of them have had a call.
    """

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityInfo:
    """An entity at one moment.

    Attributes:
        key: which one of its kind.
        run: the id of the run that it is.
        status: of that run; an entity that waits for calls is "waiting".
        state_size: bytes of its state as JSON; None if that can't be read.
        events: how many its history has.
        active_at: when something happened there last.
    """

    kind: str
    key: str
    run: str
    status: Status
    state_size: int | None
    events: int
    created_at: datetime
    active_at: datetime


@dataclass(frozen=True, slots=True)
class EntityPage:
    """A page of entities.

    Attributes:
        next: the cursor of the next page; None if this is the last one.
    """

    entities: Sequence[EntityInfo]
    next: str | None


class EntityList:
    """The entities of a database, as `engine.entities`. To call one, see `engine.entity`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def kinds(self) -> list[EntityKind]:
        """The kinds that have had calls, by name, whether or not this process has their code."""
        found = await self._connection.store.entities.kinds()
        return [EntityKind(name=name, count=count) for name, count in found]

    async def page(
        self, kind: str, *, text: str | None = None, size: int = 50, cursor: str | None = None
    ) -> EntityPage:
        """Entities of one kind, those made last first.

        Args:
            kind: its durable name.
            text: part of the run's id, such as the key.
            size: how many, 1 to 200.
            cursor: the `next` of the page before.

        Raises:
            UsageError: the size or the cursor can't be one.

        Example:
            >>> page = await engine.entities.page("shop.Cart", text="user-7")  # doctest: +SKIP
        """
        if not 1 <= size <= SIZE_MAX:
            msg = f"size={size}: a page has 1 to {SIZE_MAX} entities"
            raise UsageError(msg)
        store = self._connection.store
        before = None if cursor is None else place_of(cursor)
        found = await store.entities.find(kind, text=text or None, before=before, limit=size)
        rows = {row.run: row for row in await store.get([item.id for item in found]) if row is not None}
        # from each one's checkpoint on, so these are short, however long its history is
        histories = {history.run: history for history in await store.load(list(rows))} if rows else {}
        entities: list[EntityInfo] = []
        for item in found:
            row, history = rows.get(item.run), histories.get(item.run)
            if row is None:
                continue  # a restart has made a newer generation of it meanwhile
            entities.append(
                EntityInfo(
                    kind=row.workflow,
                    key=row.id.removeprefix(f"{row.workflow}/"),
                    run=row.id,
                    status=Status(row.status),
                    state_size=None if history is None else _size(history),
                    events=row.seq,
                    created_at=moment_of(row.created_at),
                    active_at=moment_of(row.updated_at),
                )
            )
        return EntityPage(entities, format(found[-1].run, "x") if len(found) == size else None)


def _size(history: History) -> int | None:
    if history.damage is not None:
        return None
    try:
        state = last_state(history)
    except UndecodableError:
        return None
    return None if state is None else len(state)
