"""What an engine has besides runs: callbacks, limits, budgets, published events, queues, schedules and entities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from perdure.api.connection import Connection
from perdure.core.retry import seconds
from perdure.core.where import where_of
from perdure.runtime.settings import Settings
from perdure.storage.publications import number_at

if TYPE_CHECKING:
    from perdure.api.budgets import Budgets
    from perdure.api.callbacks import Callbacks
    from perdure.api.entitylist import EntityList
    from perdure.api.limits import Limits
    from perdure.api.publications import PublicationInfo, SubscriptionInfo, WaitingInfo
    from perdure.api.queues import Queues
    from perdure.api.schedules import Schedules

E = TypeVar("E")

PAGE = 500  #: publications fetched at once


class Besides:
    """The part of an engine that leads to what else is there."""

    _settings: Settings

    if TYPE_CHECKING:

        def _open(self) -> Connection: ...

    @property
    def callbacks(self) -> Callbacks:
        """What runs wait for from outside: complete it, fail it, or keep it alive, by its token."""
        from perdure.api.callbacks import Callbacks

        return Callbacks(self._open(), self._settings.max_payload)

    @property
    def limits(self) -> Limits:
        """Rate limits: what they allow at the moment, and blocking them."""
        from perdure.api.limits import Limits

        return Limits(self._open())

    @property
    def budgets(self) -> Budgets:
        """Budgets: how they stand, raising them, closing their breakers."""
        from perdure.api.budgets import Budgets

        return Budgets(self._open())

    async def publish(self, name: str, payload: Any = None, *, key: str | None = None) -> bool:
        """Publish an event: it starts or resumes every run that subscribed, each once. Durable when this returns.

        Args:
            name: the event's name.
            payload: plain data, or anything else that has a JSON form.
            key: a second event with this name and key is ignored for as long as the first is kept, see
                `Engine(keep_publications=...)`.

        Returns:
            Whether it is new.

        Raises:
            ConfigurationError: the name or the key can't be one.
            NotSerializableError, PayloadTooLargeError: the payload can't be recorded.

        Example:
            >>> await engine.publish("order.paid", {"id": "o-7"}, key="o-7")  # doctest: +SKIP
        """
        from perdure.api.publications import new_publication, publish_at

        connection = self._open()
        limit = self._settings.max_payload
        new = new_publication(name, payload, key, at=connection.clock(), max_payload=limit)
        return await publish_at(connection, new)

    async def publications(
        self, name: str | None = None, *, limit: int | None = 100
    ) -> AsyncIterator[PublicationInfo]:
        """Published events that are still kept, newest first.

        Args:
            name: only those with this name.
            limit: how many at most, None = all.
        """
        from perdure.api.publications import publication_info

        connection = self._open()
        store = connection.store.publications
        before: int | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await store.find(name=name, before=before, limit=size)
            for row in page:
                yield publication_info(row)
            if len(page) < size:
                return
            before = page[-1].number or number_at(connection.clock() + 1e9)
            left = None if left is None else left - len(page)

    async def subscriptions(self) -> list[SubscriptionInfo]:
        """The workflows that are started by published events, by name."""
        from perdure.api.publications import subscription_info

        return [subscription_info(row) for row in await self._open().store.publications.subscriptions()]

    async def awaited(self) -> list[WaitingInfo]:
        """The events that runs wait for, and how many do; at most 1000 of these, by name."""
        from perdure.api.publications import WaitingInfo

        waiting = await self._open().store.publications.waiting()
        return [WaitingInfo(event=name, where=where_of(where), runs=count) for name, where, count in waiting]

    async def unsubscribe(self, workflow: str) -> bool:
        """End the subscription of a workflow, and forget what is gathered for it. False: it has none.

        A worker whose code still has the workflow subscribed begins it anew when it starts.
        """
        return await self._open().store.publications.unsubscribe(workflow)

    @property
    def queues(self) -> Queues:
        """Queues: what they hold; pausing and draining them, and giving them other limits."""
        from perdure.api.queues import Queues

        return Queues(self._open())

    @property
    def schedules(self) -> Schedules:
        """What starts runs by itself, by the clock."""
        from perdure.api.schedules import Schedules

        return Schedules(self._open(), self._settings.queues[0], self._settings.max_payload)

    @property
    def entities(self) -> EntityList:
        """Which entities there are."""
        from perdure.api.entitylist import EntityList

        return EntityList(self._open())

    def entity(
        self, cls: type[E], id: str, *, key: str | None = None, timeout: float | timedelta | None = None
    ) -> E:
        """The entity of a class with this id; its methods are awaited, also those that are plain functions.

        It exists from its first call on. Calls come one at a time; one is over when its answer and the new state
        are durable. What a method raises is raised here, and leaves the state as it was before the call.

        Args:
            id: which of the class's entities.
            key: makes calls recognisable: a second one with it gets the answer of the first.
            timeout: how long to wait for an answer, in seconds; the call goes on, whatever becomes of the wait.

        Raises:
            UsageError: the class is no entity.

        Example:
            >>> count = await engine.entity(Cart, "user-7").add("apple")  # doctest: +SKIP
        """
        from perdure.api.entities import Proxy, known_entity

        limit = None if timeout is None else seconds(timeout, "timeout")
        return cast("E", Proxy(known_entity(cls), id, self._open, key, limit))

    async def call_entity(
        self,
        type: str,
        id: str,
        method: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """Call a method of an entity by names and plain data, where its class isn't at hand to write the call.

        Args:
            type: the entity's durable name.
            id, key, timeout: as for `entity`.

        Raises:
            UsageError: this process hasn't loaded the class, it has no such method, or the arguments don't fit.

        Example:
            >>> await engine.call_entity("shop.Cart", "user-7", "add", ["apple"])  # doctest: +SKIP
        """
        from perdure.api.entities import call_named

        limit = None if timeout is None else seconds(timeout, "timeout")
        return await call_named(
            self._open(), type, id, method, tuple(args), dict(kwargs or {}), call_key=key, timeout=limit
        )
