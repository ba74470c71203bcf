"""Where a saver's store lives: a store belongs to the event loop that opened it, a saver may be asked from anywhere.

A graph calls its saver from its own event loop, from threads (if it is invoked from sync code), or from workflow code,
where nothing may be waited for but what is durable. Every way leads to the loop that the store lives in.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from asyncio.events import _get_running_loop
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from perdure.api.engine import Engine
from perdure.core.namespaces import namespace_of
from perdure.errors import EngineClosedError, UsageError
from perdure.runtime.stepcontext import current_step, current_store
from perdure.storage.checkpoints import CheckpointStore
from perdure.storage.protocol import Store
from perdure.storage.scoping.store import ScopedStore
from perdure.storage.urls import store_for, url_of_environment

R = TypeVar("R")

#: What is asked of a store.
Ask = Callable[[CheckpointStore], Awaitable[R]]


class Home(Protocol):
    """Where the store lives."""

    @property
    def is_open(self) -> bool:
        """Whether `enter()` needn't wait for anything."""
        ...

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Store]:
        """The loop, and the store that it has opened."""
        ...

    def close(self) -> None: ...


class Borrowed:
    """The store of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.is_open = True

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Store]:
        loop = self._engine._loop
        if loop is None or self._engine._connection is None:
            msg = "the saver's engine isn't entered, or was closed: use the saver within `async with engine:`"
            raise EngineClosedError(msg)
        return loop, self._engine._connection.store

    def close(self) -> None:
        pass


class Own:
    """A store of the saver's own, in a thread with an event loop. It is opened when it is first asked for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._opened: tuple[asyncio.AbstractEventLoop, Store] | None = None
        self._end: Any = None
        store_for(url)  # tells at once what is wrong with the url

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Store]:
        with self._lock:
            if self._opened is None:
                loop, store = asyncio.new_event_loop(), store_for(self._url)
                thread = threading.Thread(target=_turn, args=[loop], name="perdure-checkpoints", daemon=True)
                thread.start()
                try:
                    asyncio.run_coroutine_threadsafe(store.open(), loop).result()
                except BaseException:
                    _stop(loop, thread)
                    raise
                self._opened = loop, store
                self._end = weakref.finalize(self, _close, loop, thread, store)
            return self._opened

    def close(self) -> None:
        with self._lock:
            if self._end is not None:
                self._end()
            self._opened = self._end = None


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def _close(loop: asyncio.AbstractEventLoop, thread: threading.Thread, store: Store) -> None:
    closing = asyncio.run_coroutine_threadsafe(store.close(), loop)
    if threading.current_thread() is thread:  # it was garbage, and was found there
        closing.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
        return
    closing.result()
    _stop(loop, thread)


class OfTheRun:
    """The database of whichever run uses the saver; outside of runs the environment's."""

    def __init__(self) -> None:
        url = url_of_environment()
        self._otherwise = Own(url) if url else None

    @property
    def is_open(self) -> bool:
        return current_store.get() is not None or self._otherwise is None or self._otherwise.is_open

    def enter(self) -> tuple[asyncio.AbstractEventLoop, Store]:
        store = current_store.get()
        if store is None and self._otherwise is not None:
            return self._otherwise.enter()
        if store is None:
            msg = (
                "PerdureSaver() without a database is for workflow code, where it uses the run's: outside of runs give "
                'it an engine or a url, as in PerdureSaver("sqlite:///agents.db"), or set PERDURE_URL'
            )
            raise UsageError(msg)
        step = current_step.get()
        namespace = None if step is None else namespace_of(step.known_as)
        if namespace is not None:
            store = ScopedStore(store, namespace)
        return asyncio.get_running_loop(), store

    def close(self) -> None:
        if self._otherwise is not None:
            self._otherwise.close()


def home_of(where: Engine | str | None) -> Home:
    """What a saver was given, as a home."""
    if where is None:
        return OfTheRun()
    return Own(where) if isinstance(where, str) else Borrowed(where)


async def ask(home: Home, question: Ask[R]) -> R:
    """Ask the store from a coroutine, in whichever loop that is."""
    loop, store = home.enter() if home.is_open else await asyncio.to_thread(home.enter)
    if loop is asyncio.get_running_loop():
        return await question(store.checkpoints)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_asked(store, question), loop))


def ask_and_wait(home: Home, question: Ask[R]) -> R:
    """Ask the store from sync code, in whichever thread that is."""
    loop, store = home.enter()
    if _get_running_loop() is loop:
        msg = (
            "a sync method of PerdureSaver was called in the event loop that its database lives in, which would wait "
            "for itself: use graph.ainvoke() and the saver's async methods there"
        )
        raise UsageError(msg)
    return asyncio.run_coroutine_threadsafe(_asked(store, question), loop).result()


async def _asked(store: Store, question: Ask[R]) -> R:
    return await question(store.checkpoints)
