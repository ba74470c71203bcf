"""The databases that transactional steps work on, recognised by what they can do: no driver is imported here.

transaction=    psycopg_pool.ConnectionPool, AsyncConnectionPool
                sqlalchemy Engine, AsyncEngine, sessionmaker, async_sessionmaker
                a function that makes a connection (psycopg, sqlite3, apsw, SQLAlchemy, sync or async), which
                is closed afterwards; or a context manager around one, which isn't
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any, cast

from perdure.errors import ConfigurationError
from perdure.runtime.transactions import Statement, Transaction, mismatch


class UserDatabase:
    """What was given as `transaction=`.

    Attributes:
        asynchronous: whether it is to be awaited, None = that is known only once it has been opened.
        described: its kind, for messages.

    Raises:
        ConfigurationError: it is none of the known kinds.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self.described = _described(given)
        self.asynchronous: bool | None
        if _is_connection(given):
            raise _unsupported(given)
        if _makes_transactions(given) or _is_pool(given):
            self.asynchronous = _sounds_async(given)
        elif callable(given):
            self.asynchronous = True if inspect.iscoroutinefunction(given) else None
        else:
            raise _unsupported(given)

    @contextmanager
    def begin(self) -> Generator[Transaction, None, None]:
        """Open a transaction: committed at the end of the block, rolled back if an error leaves it."""
        with ExitStack() as stack:
            connection, begun = self._connect(stack, self._given)
            if not begun:
                stack.enter_context(_begun(connection))
            yield _SyncTransaction(connection)

    @asynccontextmanager
    async def begin_async(self) -> AsyncGenerator[Transaction, None]:
        """The same on an asynchronous database."""
        async with AsyncExitStack() as stack:
            connection, begun = await self._connect_async(stack, self._given)
            if not begun:
                if _root(connection) == "psycopg":
                    await stack.enter_async_context(connection.transaction())
                else:
                    await stack.enter_async_context(connection.begin())
            yield _AsyncTransaction(connection)

    def _connect(self, stack: ExitStack, given: Any) -> tuple[Any, bool]:
        """An open connection, and whether it is in a transaction that the stack ends."""
        if _is_connection(given):
            if _is_async(given):
                raise mismatch(is_async=False, described=_described(given))
            return given, False
        if _makes_transactions(given):
            return stack.enter_context(given.begin()), True
        if _is_pool(given):
            return stack.enter_context(given.connection()), False
        if not callable(given):
            raise _unsupported(given)
        made: Any = given()
        if _is_awaitable(made):
            if hasattr(made, "close"):
                made.close()  # a coroutine that was never awaited
            raise mismatch(is_async=False, described=self.described)
        if _is_connection(made):
            if not _is_async(made):
                stack.callback(made.close)
        elif hasattr(made, "__enter__"):
            made = stack.enter_context(made)
        elif hasattr(made, "__aenter__"):
            raise mismatch(is_async=False, described=self.described)
        elif not (_makes_transactions(made) or _is_pool(made)):
            raise _unsupported(made)
        return self._connect(stack, made)

    async def _connect_async(self, stack: AsyncExitStack, given: Any) -> tuple[Any, bool]:
        if _is_connection(given):
            if not _is_async(given):
                raise mismatch(is_async=True, described=_described(given))
            return given, False
        if _makes_transactions(given):
            return await stack.enter_async_context(given.begin()), True
        if _is_pool(given):
            return await stack.enter_async_context(given.connection()), False
        if not callable(given):
            raise _unsupported(given)
        made: Any = given()
        if _is_awaitable(made) and not _is_connection(made):
            made = await made
        if _is_connection(made):
            if not _is_async(made):
                made.close()
            elif _is_awaitable(made):  # SQLAlchemy's, which are to be entered before they can be used
                made = await stack.enter_async_context(made)
            else:
                stack.push_async_callback(made.close)
        elif hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        elif hasattr(made, "__enter__"):
            raise mismatch(is_async=True, described=self.described)
        elif not (_makes_transactions(made) or _is_pool(made)):
            raise _unsupported(made)
        return await self._connect_async(stack, made)


class _SyncTransaction:
    """An open transaction of a sync connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.dialect = _dialect(connection)

    def is_open(self) -> bool:
        return _in_transaction(self.connection)

    def execute(self, statement: Statement) -> list[Any]:
        connection = self.connection
        root = _root(connection)
        if root == "psycopg":
            cursor = connection.cursor(row_factory=_tuple_rows())
            cursor.execute(_for_psycopg(statement.text), statement.values)
            return cursor.fetchall() if cursor.description else []
        if root == "sqlalchemy":
            result = connection.execute(_text(statement.text), statement.values)
            return [tuple(row) for row in result.fetchall()] if result.returns_rows else []
        rows: list[Any] = connection.execute(statement.text, statement.values).fetchall()
        return [_tuple(row) for row in rows]


class _AsyncTransaction:
    """An open transaction of an async connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.dialect = _dialect(connection)

    def is_open(self) -> bool:
        return _in_transaction(self.connection)

    async def execute(self, statement: Statement) -> list[Any]:
        connection = self.connection
        if _root(connection) == "psycopg":
            cursor = connection.cursor(row_factory=_tuple_rows())
            await cursor.execute(_for_psycopg(statement.text), statement.values)
            return await cursor.fetchall() if cursor.description else []
        result = await connection.execute(_text(statement.text), statement.values)
        return [tuple(row) for row in result.fetchall()] if result.returns_rows else []


@contextmanager
def _begun(connection: Any) -> Generator[None, None, None]:
    """A transaction on a sync connection that is in none."""
    root = _root(connection)
    if root == "psycopg":
        with connection.transaction():
            yield
    elif root == "sqlalchemy":
        with connection.begin():
            yield
    else:
        with _begun_on_sqlite(connection):
            yield


@contextmanager
def _begun_on_sqlite(connection: Any) -> Generator[None, None, None]:
    if not connection.in_transaction:  # one of Python's modes keeps a transaction open at all times
        connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if getattr(connection, "autocommit", None) is False:
        connection.commit()
    else:
        connection.execute("COMMIT")


def execute_on(
    connection: Any, statements: Mapping[str, str], values: dict[str, Any], why: str
) -> Awaitable[None]:
    """Execute a statement on an open connection of the user's, in the transaction that it is in.

    Args:
        statements: by dialect; the one for SQLite isn't for the driver of the standard library.
        why: what for, for messages: "publish_in()".

    Returns:
        To be awaited if the connection is; else it is done already.

    Raises:
        ConfigurationError: it isn't a connection that this can be done on.
    """
    if not _is_connection(connection):
        msg = f"{why} got {_described(connection)}: give an open connection of psycopg 3, SQLAlchemy or apsw"
        raise ConfigurationError(msg)
    dialect = _dialect(connection)
    if dialect not in statements or (dialect == "sqlite" and _root(connection) != "apsw"):
        msg = (
            f"{why} got {_described(connection)} ({dialect}): it takes connections to PostgreSQL, or of apsw to the "
            "engine's SQLite file. The sqlite3 module brings a SQLite of its own, and two of them in one process "
            "break the locks on a file"
        )
        raise ConfigurationError(msg)
    statement = Statement(statements[dialect], values)
    if _is_async(connection):
        return _awaited(_AsyncTransaction(connection), statement)
    _SyncTransaction(connection).execute(statement)
    return _Done()


async def _awaited(transaction: _AsyncTransaction, statement: Statement) -> None:
    await transaction.execute(statement)


class _Done:
    """What may be awaited, and is done."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


# -- recognising --------------------------------------------------------------------------------------


def _root(thing: Any) -> str:
    """The package that a thing's class, or one it is derived from, comes from, if it is a known one."""
    for cls in type(thing).__mro__:
        root = cls.__module__.partition(".")[0]
        if root in ("psycopg", "psycopg_pool", "sqlalchemy", "sqlite3", "apsw"):
            return root
    return ""


def _is_connection(thing: Any) -> bool:
    root = _root(thing)
    if root in ("sqlite3", "apsw", "psycopg"):
        return not inspect.isclass(thing) and hasattr(thing, "execute")
    return root == "sqlalchemy" and hasattr(thing, "execute") and hasattr(thing, "begin")


def _is_awaitable(thing: Any) -> bool:
    return inspect.isawaitable(thing)


def _is_async(connection: Any) -> bool:
    return hasattr(connection, "__aenter__") and not hasattr(connection, "__enter__")  # apsw's has both


def _makes_transactions(thing: Any) -> bool:
    """Engines and session makers."""
    return _root(thing) == "sqlalchemy" and hasattr(thing, "begin") and not hasattr(thing, "execute")


def _is_pool(thing: Any) -> bool:
    return callable(getattr(thing, "connection", None)) and callable(getattr(thing, "getconn", None))


def _sounds_async(thing: Any) -> bool:
    return any("async" in cls.__name__.lower() for cls in type(thing).__mro__)


def _described(given: Any) -> str:
    name = getattr(given, "__qualname__", None)
    return str(name) if isinstance(name, str) else f"a {type(given).__module__}.{type(given).__qualname__}"


def _unsupported(given: Any) -> ConfigurationError:
    return ConfigurationError(
        f"transaction= got {_described(given)}: give a psycopg pool, a SQLAlchemy engine or sessionmaker, or a "
        "function that makes a connection of psycopg 3, SQLAlchemy, sqlite3 or apsw (a connection itself can't be "
        "shared by steps that execute at the same time)"
    )


def _dialect(connection: Any) -> str:
    root = _root(connection)
    if root == "psycopg":
        return "postgresql"
    if root != "sqlalchemy":
        return "sqlite"
    dialect = getattr(connection, "dialect", None) or connection.get_bind().dialect
    return str(dialect.name)


def _tuple(row: Any) -> Any:
    """A row as a tuple, whatever rows the user's connection makes."""
    return tuple(cast("Mapping[str, Any]", row).values()) if isinstance(row, Mapping) else row


def _in_transaction(connection: Any) -> bool:
    root = _root(connection)
    if root == "psycopg":
        return int(connection.info.transaction_status) != 0  # libpq's PQTRANS_IDLE
    told = connection.in_transaction
    return bool(told() if callable(told) else told)


def _for_psycopg(text: str) -> str:
    return re.sub(r":(\w+)", r"%(\1)s", text)


def _tuple_rows() -> Any:
    return importlib.import_module("psycopg.rows").tuple_row  # whatever rows the user's connection makes


def _text(text: str) -> Any:
    make = cast("Callable[[str], Any]", importlib.import_module("sqlalchemy").text)
    return make(text)
