"""The quick way for lone appends: one statement on a connection of its own, straight through libpq.

A sequential run waits for each of its commits, so what counts there is the way to the server and back. A pool, a task
and general adaptation of types take as long as the server's work; here an append is packed by hand and sent by the
event loop itself, and the reply calls back.

Only the usual case goes this way: one append of one small event, with no consequences. Whatever goes wrong is left to
the general way (attempts.py), which has the patience. It repeats the append, and a repeated one recognises itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import struct
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import pq

from perdure.storage.postgres.connection import by_index
from perdure.storage.records import Append

logger = logging.getLogger("perdure.postgres")

#: Larger events don't notice the difference.
BYTES_MAX = 32 * 1024
_RECONNECT = 1.0
_STATEMENT = b"perdure_append_one"
_NAMES = ("run", "expected", "epoch", "attempt", "now", "chain", "data")
_INT8, _FLOAT8, _BYTEA = 20, 701, 17
_TYPES = (_INT8, _INT8, _INT8, _INT8, _FLOAT8, _INT8, _BYTEA)
_BINARY = (1,) * len(_NAMES)
_integer = struct.Struct("!q").pack
_real = struct.Struct("!d").pack
Done = Callable[[bool], None]


class Express:
    """A connection for one append at a time.

    Args:
        query: the statement, with named parameters.
        prepares: prepare it; that doesn't go through poolers.

    Attributes:
        sent: appends that came through this way; tests count them.
    """

    def __init__(self, conninfo: str, loop: asyncio.AbstractEventLoop, query: str, *, prepares: bool) -> None:
        self._conninfo = conninfo
        self._loop = loop
        self._query = re.sub(
            r"%\((\w+)\)[sb]", lambda found: f"${_NAMES.index(found[1]) + 1}", query
        ).encode()
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._pgconn: Any = None
        self._socket = -1
        self._prepares = prepares
        self._done: Done | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False
        self.sent = 0

    async def open(self) -> None:
        """Connect, if that can be done at once."""
        try:
            await self._connect()
        except (psycopg.Error, OSError) as error:
            logger.debug("no quick way yet: %s", error)

    async def close(self) -> None:
        """Disconnect. Nothing may be on its way."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._disconnect()

    def send(self, append: Append, done: Done) -> bool:
        """Send an append that changes nothing but its run's seq.

        Args:
            done: called with True once the append is durable. False: nobody knows, ask the general way.

        Returns:
            Whether it is on its way. False: nothing was sent.
        """
        if self._done is not None or len(append.events) != 1 or len(append.events[0]) > BYTES_MAX:
            return False
        if self._pgconn is None:
            self._connect_soon()
            return False
        values = [
            _integer(append.run),
            _integer(append.expected),
            _integer(append.epoch),
            _integer(append.attempt),
            _real(append.now),
            _integer(append.links[0]),
            append.events[0],
        ]
        try:
            self._hand_over(values)
            unsent = self._pgconn.flush()
        except psycopg.Error as error:
            self._lose(error)
            return False
        self._done = done
        if unsent:
            self._loop.add_writer(self._socket, self._flush)
        return True

    def _hand_over(self, values: list[bytes]) -> None:
        if self._prepares:
            self._pgconn.send_query_prepared(_STATEMENT, values, _BINARY, pq.Format.BINARY)
        else:
            self._pgconn.send_query_params(self._query, values, _TYPES, _BINARY, pq.Format.BINARY)

    def _flush(self) -> None:
        try:
            unsent = self._pgconn.flush()
        except psycopg.Error as error:
            self._fail(error)
            return
        if not unsent:
            self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        """Something has come from the server: the reply, or the connection's end."""
        try:
            self._pgconn.consume_input()
            if self._done is None:
                return  # a notice, say; an end is found out by the next append
            passed = False
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    self._settle(passed)
                    return
                passed = self._passed(result)
        except psycopg.Error as error:
            self._fail(error)

    def _passed(self, result: Any) -> bool:
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return bool(result.command_tuples == 1)
        logger.debug("the quick way failed: %s", result.error_message)
        return False

    def _settle(self, passed: bool) -> None:
        done, self._done = self._done, None
        assert done is not None
        self.sent += passed
        done(passed)

    # -- connecting ---------------------------------------------------------------------------------

    def _connect_soon(self) -> None:
        if self._opening is None and not self._closed:
            self._opening = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            await asyncio.sleep(_RECONNECT)
            await self.open()
        finally:
            self._opening = None

    async def _connect(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        self._connection = connection
        if self._prepares:
            await by_index(connection)
            await self._prepare(connection)
        self._pgconn, self._socket = connection.pgconn, connection.pgconn.socket
        self._loop.add_reader(self._socket, self._readable)

    async def _prepare(self, connection: psycopg.AsyncConnection[Any]) -> None:
        types = ", ".join(str(psycopg.postgres.types[oid].name) for oid in _TYPES)
        await connection.execute(b"PREPARE %s (%s) AS %s" % (_STATEMENT, types.encode(), self._query))

    def _fail(self, error: psycopg.Error) -> None:
        """The connection broke while an append was on its way."""
        done, self._done = self._done, None
        self._lose(error)
        if done is not None:
            done(False)

    def _lose(self, error: psycopg.Error) -> None:
        logger.debug("the quick way is lost: %s", error)
        self._forget_socket()
        self._connect_soon()

    def _forget_socket(self) -> None:
        if self._pgconn is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._pgconn.finish()
            self._pgconn = None

    async def _disconnect(self) -> None:
        self._forget_socket()
        if self._connection is not None:
            await self._connection.close()
