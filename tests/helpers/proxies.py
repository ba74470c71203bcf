"""A TCP proxy that does to connections what networks do to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class Proxy:
    """Passes everything on between clients and a server on this machine, until it is told otherwise.

    It has a thread and an event loop of its own, so it works for any test.

    Attributes:
        cuts: connections it has cut.
        swallowed: replies it has kept from clients.
        lose_reply_to: asked for each request whether the connection is to be cut instead of replying to it.
        lose_reply: asked for each reply whether the connection is to be cut instead of passing it on.
        refuses: new connections are cut at once.
        hears: is told of all that clients send, with something that stands for the connection.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.lose_reply_to: Callable[[bytes], bool] | None = None
        self.lose_reply: Callable[[bytes], bool] | None = None
        self.refuses = False
        self.hears: Callable[[object, bytes], None] | None = None
        self.cuts = 0
        self.swallowed = 0

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: Any) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Cut all connections."""
        self._do(self._cut())

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _cut(self) -> None:
        for link in list(self._links):
            link.cut()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            server = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        if self.refuses:  # since it was asked for, all connections were cut, and this wasn't one yet
            writer.transport.abort()
            server[1].transport.abort()
            return
        await _Link(self, (reader, writer), server).run()

    def swallow_once(self, *, after: bytes = b"", reply: bytes = b"") -> None:
        """The next request with `after` in it reaches the server, or the next reply with `reply` leaves it; the client
        hears nothing of it but the connection's end."""

        def once(needle: bytes) -> Callable[[bytes], bool]:
            def hit(data: bytes) -> bool:
                if needle not in data:
                    return False
                self.lose_reply_to = self.lose_reply = None
                return True

            return hit

        if after:
            self.lose_reply_to = once(after)
        else:
            self.lose_reply = once(reply)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    def __init__(self, proxy: Proxy, client: Stream, server: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._doomed = False
        proxy._links.add(self)

    def cut(self) -> None:
        if self in self._proxy._links:
            self._proxy._links.discard(self)
            self._proxy.cuts += 1
            self._client[1].transport.abort()
            self._server[1].transport.abort()

    async def run(self) -> None:
        try:
            await asyncio.gather(self._requests(), self._replies())
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.cut()

    async def _requests(self) -> None:
        while data := await self._client[0].read(1 << 16):
            if self._proxy.hears is not None:
                self._proxy.hears(self, data)
            lost = self._proxy.lose_reply_to
            if lost is not None and lost(data):
                self._doomed = True
            self._server[1].write(data)
            await self._server[1].drain()
        self._server[1].close()

    async def _replies(self) -> None:
        while data := await self._server[0].read(1 << 16):
            lost = self._proxy.lose_reply
            if self._doomed or (lost is not None and lost(data)):
                self._proxy.swallowed += 1
                self.cut()
                return
            self._client[1].write(data)
            await self._client[1].drain()
        self._client[1].close()
