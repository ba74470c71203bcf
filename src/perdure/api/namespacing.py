"""One namespace of an engine's database: what `engine.namespace(...)` gives.

It has a store of its own around the engine's, and waits of its own; the database's connections, the worker and the
clock are the engine's.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.api.besides import Besides
from perdure.api.connection import Connection
from perdure.api.doors import Doors
from perdure.api.erasing import Erasing
from perdure.api.keeping import Keeping
from perdure.api.outlook import Outlook
from perdure.api.quotas import Quoted
from perdure.api.spending import Spending
from perdure.api.starter import Starter
from perdure.errors import NamespaceError
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.quotas import Quotas
from perdure.runtime.results import Results
from perdure.runtime.settings import Settings


class Namespace(Besides, Doors, Erasing, Keeping, Outlook, Quoted, Spending, Starter):
    """An engine as one of its namespaces sees it: the same verbs, and nothing of the others.

    Every id, name and key that is given here or comes from here is the namespace's own. What belongs to another one
    doesn't exist here. It is open as long as the engine is.

    Attributes:
        url: the database.

    Example:
        >>> acme = engine.namespace("acme")  # doctest: +SKIP
        >>> await acme.run(research("tardigrades"), id="r-1")  # doctest: +SKIP
    """

    def __init__(self, url: str, name: str, settings: Settings, connection: Connection) -> None:
        self.url = url
        self._name = name
        self._settings = settings
        self._connection = connection
        self._worker = connection.worker
        self._loop = asyncio.get_running_loop()

    @property
    def bound_to(self) -> str:
        """The namespace's name."""
        return self._name

    def _check(self) -> None:
        self._connection.check()

    def _open(self) -> Connection:
        self._check()
        return self._connection

    def __repr__(self) -> str:
        return f"<namespace {self._name!r} of {self.url!r}>"


class Namespaces:
    """The part of an engine that has namespaces."""

    url: str
    _settings: Settings
    _base: Connection | None = None  # of the whole database
    _bound: str | None = None

    if TYPE_CHECKING:

        def _check(self) -> None: ...

    @functools.cached_property
    def _views(self) -> dict[str, Namespace]:
        """The namespaces that were asked for."""
        return {}

    @property
    def bound_to(self) -> str | None:
        """The namespace that this engine is bound to; None if it sees all of the database."""
        return self._bound

    def namespace(self, name: str) -> Namespace:
        """This engine as one of its namespaces sees it. Does no I/O; a namespace needn't be made.

        Args:
            name: 1 to 63 of the characters a-z, 0-9, '-', '_' and '.'; it begins and ends with a letter or digit.

        Raises:
            UsageError: that can't name a namespace.
            NamespaceError: the engine is bound to another one.

        Example:
            >>> handle = await engine.namespace("acme").start(research("tardigrades"), id="r-1")  # doctest: +SKIP
        """
        self._check()
        assert self._base is not None
        if self._bound not in (None, name):
            msg = (
                f"this engine is bound to the namespace {self._bound!r}, and leads to no other: make one without "
                "namespace= for several"
            )
            raise NamespaceError(msg)
        view = self._views.get(name)
        if view is None:
            loop = asyncio.get_running_loop()
            connection = connection_within(self._base, name, self._settings, loop, self._check)
            view = self._views[name] = Namespace(self.url, name, self._settings, connection)
        return view


def connection_within(
    base: Connection,
    namespace: str,
    settings: Settings,
    loop: asyncio.AbstractEventLoop,
    check: Callable[[], None],
) -> Connection:
    """What a namespace's handles share, beside what an engine's do."""
    from perdure.storage.scoping.store import ScopedStore

    store = ScopedStore(base.store, namespace, Quotas(base.store, base.clock))
    connection = Connection(store, Results(store, loop, store.prefix), base.clock)
    connection.within = store.prefix
    connection.check = check
    connection.worker = base.worker
    connection.observer = base.observer
    connection.max_payload = base.max_payload
    connection.nudge_base = base.nudge
    connection.inquiry = Inquiry(store, loop, settings, connection.nudge, store.prefix)
    connection.settings = settings
    base.results.others.append(connection.results)
    base.inquiry.lend(connection.inquiry)
    base.listeners.others[store.prefix] = connection.listeners
    return connection
