"""An engine for code that isn't async: Flask, Django, scripts, consoles.

It lives in a thread with an event loop of its own; whoever calls it waits for the answer, from any thread.

    engine = BlockingEngine("sqlite:///orders.db")
    engine.open()
    handle = engine.start(order("teapot"), id="order-1")
    print(handle.result(timeout=30))
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar

from perdure.api.call import Call
from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.api.runinfo import RunInfo
from perdure.core.status import Status
from perdure.errors import EngineClosedError, UsageError

P = ParamSpec("P")
R = TypeVar("R")


class BlockingEngine:
    """An `Engine` whose methods wait. A context manager; or `open` it once when the process begins.

    A process that is forked afterwards, as some servers do with their workers, opens one of its own at its first call.

    Args:
        url, options: as for `Engine`. Web processes mostly want `worker=False`, and workers beside them.

    Example:
        >>> with BlockingEngine("memory:") as engine:  # doctest: +SKIP
        ...     print(engine.run(research("moss")))
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self._url = url
        self._options = options
        self._lock = threading.Lock()
        self._life: _Life | None = None
        self._closed = False

    def open(self) -> Self:
        """Open it now, not at the first call. Again is no error. It is closed when the process ends.

        Raises:
            ConfigurationError, StoreError: as an Engine does when it is opened.
        """
        self._living()
        return self

    def close(self) -> None:
        """Close it in good order; calls that wait raise EngineClosedError."""
        with self._lock:
            life, self._life, self._closed = self._life, None, True
        if life is not None and life.process == os.getpid():
            life.end()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def engine(self) -> Engine:
        """The engine itself, for what has no method here; see `call`."""
        return self._living().engine

    def call(self, function: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Await something in the engine's thread.

        Raises:
            UsageError: in an event loop's thread, which would stand still.

        Example:
            >>> engine.call(engine.engine.queues.pause, "ingest")  # doctest: +SKIP
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._living().call(function(*args, **kwargs))
        msg = "a BlockingEngine was called in a running event loop, which would stand still: use perdure.Engine there"
        raise UsageError(msg)

    def start(self, call: Call[R], **options: Any) -> BlockingHandle[R]:
        """Start a run; it is durable when this returns. Options and errors as for `Engine.start`."""
        call.mark_used()

        async def started() -> Handle[R]:
            return await self.engine.start(call, **options)

        return BlockingHandle(self, self.call(started))

    def run(self, call: Call[R], *, timeout: float | timedelta | None = None, **options: Any) -> R:
        """Start a run and wait for its result.

        Args:
            timeout: how long to wait, in seconds; the run goes on, whatever becomes of this wait.
        """
        return self.start(call, **options).result(timeout)

    def get(self, id: str) -> BlockingHandle[Any]:
        """A handle to a run by its id, existing or not."""

        async def got() -> Handle[Any]:
            return self.engine.get(id)

        return BlockingHandle(self, self.call(got))

    def _living(self) -> _Life:
        with self._lock:
            if self._closed:
                msg = "this BlockingEngine has been closed: make another one"
                raise EngineClosedError(msg)
            if self._life is None or self._life.process != os.getpid():
                self._life = _Life(Engine(self._url, **self._options))
                atexit.register(self.close)
            return self._life


class BlockingHandle(Generic[R]):
    """A run, whose methods wait. What isn't here: `engine.call(handle.handle.history)` and the like.

    Attributes:
        handle: the async one.
    """

    def __init__(self, engine: BlockingEngine, handle: Handle[R]) -> None:
        self._engine = engine
        self.handle = handle

    @property
    def id(self) -> str:
        """The run's id."""
        return self.handle.id

    def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait for the run's end and return its result. As `Handle.result`."""
        return self._engine.call(self.handle.result, timeout)

    def status(self) -> Status:
        """Where the run stands."""
        return self._engine.call(self.handle.status)

    def info(self) -> RunInfo:
        """All about the run at this moment."""
        return self._engine.call(self.handle.info)

    def send(self, name: str, value: Any = None, *, key: str | None = None) -> None:
        """Send the run a message; it is durable when this returns."""
        self._engine.call(self.handle.send, name, value, key=key)

    def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask one of the run's query handlers."""
        return self._engine.call(self.handle.query, name, *args, **kwargs)

    def update(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call one of the run's update handlers and wait for its result."""
        return self._engine.call(self.handle.update, name, *args, **kwargs)

    def cancel(self, reason: str | None = None) -> None:
        """Ask the run to end; its code may tidy up."""
        self._engine.call(self.handle.cancel, reason)

    def __repr__(self) -> str:
        return f"<blocking handle {self.id!r}>"


class _Life:
    """An open engine, in a thread of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-blocking", daemon=True)
        self._thread.start()
        try:
            self.call(engine.__aenter__())
        except BaseException:
            self._stop()
            raise

    def call(self, awaited: Coroutine[Any, Any, R]) -> R:
        future = asyncio.run_coroutine_threadsafe(awaited, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def end(self) -> None:
        try:
            self.call(self.engine.__aexit__(None, None, None))
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
