"""What an engine opens the door to: schedules and entities."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar, cast

from perdure.api.connection import Connection
from perdure.api.entities import Proxy, known_entity
from perdure.api.schedules import Schedules
from perdure.core.retry import seconds
from perdure.runtime.settings import Settings

E = TypeVar("E")


class Doors:
    """The part of an engine that hands out schedules and entities."""

    _settings: Settings

    def _open(self) -> Connection:
        raise NotImplementedError

    @property
    def schedules(self) -> Schedules:
        """What starts runs by itself, by the clock."""
        return Schedules(self._open(), self._settings.queues[0], self._settings.max_payload)

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
        limit = None if timeout is None else seconds(timeout, "timeout")
        return cast("E", Proxy(known_entity(cls), id, self._open, key, limit))
