"""Transactional steps: effect and record are committed together, in every kind of database and connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, of_kind, reaches, run

import perdure
from perdure import OutcomeUnknown, Retry, events, step, workflow
from perdure.errors import ConfigurationError
from perdure.runtime import databases, definitions

psycopg: Any = pytest.importorskip("psycopg")
psycopg_pool: Any = pytest.importorskip("psycopg_pool")
sqlalchemy: Any = pytest.importorskip("sqlalchemy")
pytest.importorskip("sqlalchemy.ext.asyncio")
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine  # noqa: E402
from sqlalchemy.orm import sessionmaker  # noqa: E402

from helpers import postgres  # noqa: E402

BODIES: list[str] = []


class Kind:
    """One way to give a database, and how a step uses it."""

    def __init__(
        self, name: str, make: Callable[[str], Any], *, server: str, is_async: bool, orm: bool = False
    ):
        self.name = name
        self.make = make
        self.server = server
        self.is_async = is_async
        self.orm = orm


def apsw_connection(path: str) -> apsw.Connection:
    connection = apsw.Connection(path)
    connection.set_busy_timeout(5000)
    return connection


def dictionaries(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.row_factory = lambda cursor, row: {
        c[0]: v for c, v in zip(cursor.description, row, strict=True)
    }
    return connection


def kept_open(path: str) -> Any:
    connection = sqlite3.connect(path, check_same_thread=False)

    @contextlib.contextmanager
    def lent() -> Any:
        yield connection

    return lent


def alchemy(url: str) -> str:
    return "postgresql+psycopg://" + url.partition("://")[2] if "://" in url else url


def pg_engine(url: str, make: Any = sqlalchemy.create_engine) -> Any:
    connect = functools.partial(
        psycopg.AsyncConnection.connect if make is create_async_engine else psycopg.connect, url
    )
    creator = {"async_creator": connect} if make is create_async_engine else {"creator": connect}
    return make("postgresql+psycopg://", poolclass=sqlalchemy.pool.NullPool, **creator)


KINDS = [
    Kind("sqlite3", lambda at: lambda: sqlite3.connect(at), server="file", is_async=False),
    Kind("sqlite3-dicts", lambda at: lambda: dictionaries(at), server="file", is_async=False),
    Kind("sqlite3-kept", kept_open, server="file", is_async=False),
    Kind("apsw", lambda at: lambda: apsw_connection(at), server="file", is_async=False),
    Kind(
        "alchemy-sqlite",
        lambda at: sqlalchemy.create_engine(f"sqlite:///{at}"),
        server="file",
        is_async=False,
    ),
    Kind(
        "alchemy-aiosqlite",
        lambda at: create_async_engine(f"sqlite+aiosqlite:///{at}", poolclass=sqlalchemy.pool.NullPool),
        server="file",
        is_async=True,
    ),
    Kind("psycopg", lambda at: lambda: psycopg.connect(at), server="pg", is_async=False),
    Kind(
        "psycopg-autocommit",
        lambda at: lambda: psycopg.connect(at, autocommit=True),
        server="pg",
        is_async=False,
    ),
    Kind(
        "psycopg-dicts",
        lambda at: lambda: psycopg.connect(at, row_factory=psycopg.rows.dict_row),
        server="pg",
        is_async=False,
    ),
    Kind(
        "psycopg-async",
        lambda at: functools.partial(psycopg.AsyncConnection.connect, at),
        server="pg",
        is_async=True,
    ),
    Kind(
        "psycopg-lambda", lambda at: lambda: psycopg.AsyncConnection.connect(at), server="pg", is_async=True
    ),
    Kind(
        "pool", lambda at: psycopg_pool.ConnectionPool(at, min_size=1, open=True), server="pg", is_async=False
    ),
    Kind(
        "async-pool",
        lambda at: psycopg_pool.AsyncConnectionPool(at, min_size=1, open=False),
        server="pg",
        is_async=True,
    ),
    Kind("alchemy-engine", pg_engine, server="pg", is_async=False),
    Kind("alchemy-connect", lambda at: pg_engine(at).connect, server="pg", is_async=False),
    Kind("alchemy-session", lambda at: sessionmaker(pg_engine(at)), server="pg", is_async=False, orm=True),
    Kind("alchemy-async", lambda at: pg_engine(at, create_async_engine), server="pg", is_async=True),
    Kind(
        "alchemy-async-connect",
        lambda at: pg_engine(at, create_async_engine).connect,
        server="pg",
        is_async=True,
    ),
    Kind(
        "alchemy-async-session",
        lambda at: async_sessionmaker(pg_engine(at, create_async_engine)),
        server="pg",
        is_async=True,
        orm=True,
    ),
]


class Shop:
    """A database with a table of effects, and a step that works on it."""

    def __init__(self, kind: Kind, tmp_path: Path) -> None:
        self.kind = kind
        self.at = postgres.new_database() if kind.server == "pg" else str(tmp_path / "shop.db")
        self.ask("CREATE TABLE sold (item TEXT NOT NULL)", write=True)
        self.database = kind.make(self.at)
        self.text: Any = sqlalchemy.text if "alchemy" in kind.name else str
        definitions._steps.pop("shop.sell", None)
        self.sell = self.step_of(self.database)

    def ask(self, sql: str, *, write: bool = False) -> list[Any]:
        """From outside."""
        if self.kind.server == "pg":
            with psycopg.connect(self.at, autocommit=True) as connection:
                cursor = connection.execute(sql)
                return [] if write else cursor.fetchall()
        with contextlib.closing(apsw_connection(self.at)) as connection:
            return [] if write and connection.execute(sql) else connection.execute(sql).fetchall()

    def step_of(self, database: Any) -> Any:
        insert = "INSERT INTO sold (item) VALUES ('" + "{}" + "')"
        if self.kind.is_async:

            async def sell_async(connection: Any, item: str, fails: bool = False) -> str:
                BODIES.append(item)
                await connection.execute(self.text(insert.format(item)))
                if fails:
                    raise ValueError("no")
                return f"sold {item}"

            return step(transaction=database, name="shop.sell")(sell_async)

        def sell(connection: Any, item: str, fails: bool = False) -> str:
            BODIES.append(item)
            connection.execute(self.text(insert.format(item)))
            if fails:
                raise ValueError("no")
            return f"sold {item}"

        return step(transaction=database, name="shop.sell")(sell)

    def sold(self) -> list[str]:
        return sorted(item for (item,) in self.ask("SELECT item FROM sold"))

    def records(self) -> list[Any]:
        return sorted(self.ask("SELECT run_id, step_id, result FROM perdure_steps"))

    async def __aenter__(self) -> Shop:
        BODIES.clear()
        if self.kind.name == "async-pool":
            await self.database.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.kind.name == "async-pool":
            await self.database.close()
        elif self.kind.name == "pool":
            self.database.close()
        elif hasattr(self.database, "dispose"):
            disposed = self.database.dispose()
            if disposed is not None:
                await disposed


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    return Shop(request.param, tmp_path)


@workflow
async def sells(fails: bool = False) -> list[str]:
    sell = CURRENT[0].sell  # the step of the test's own database
    first = await sell("book")
    if fails:
        try:
            await sell("lamp", fails=True)
        except ValueError:
            pass
    return [first, await sell("pen")]


CURRENT: list[Shop] = []


@contextlib.asynccontextmanager
async def opened(shop: Shop) -> Any:
    CURRENT.append(shop)
    async with shop:
        yield shop
    CURRENT.pop()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # connections that garbage collection finds
def test_effect_and_record_are_one(shop: Shop) -> None:
    async def main() -> None:
        async with opened(shop), perdure.Engine("memory:") as engine:
            CURRENT[:] = [shop]
            assert await engine.run(sells(True), id="a") == ["sold book", "sold pen"]
            assert shop.sold() == ["book", "pen"]  # and no lamp
            assert shop.records() == [
                ("a", "shop.sell#1", '"sold book"'),
                ("a", "shop.sell#3", '"sold pen"'),
            ]
            (first, *_) = await of_kind(engine.get("a"), events.StepCompleted)
            assert first.input == b'[["book"],{}]'  # the connection is none of it

    run(main)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_recorded_there_isnt_done_again(shop: Shop) -> None:
    """As after a crash between the commit there and the record here."""

    async def main() -> None:
        async with opened(shop):
            CURRENT[:] = [shop]
            async with perdure.Engine("memory:") as engine:
                await engine.run(sells(), id="a")
            async with perdure.Engine("memory:") as engine:  # which has forgotten everything
                assert await engine.run(sells(), id="a") == ["sold book", "sold pen"]
                assert await engine.run(sells(), id="b") == ["sold book", "sold pen"]
            assert shop.sold() == ["book", "book", "pen", "pen"]
            assert BODIES == ["book", "pen"] * 2

    run(main)


def in_file(tmp_path: Path) -> Shop:
    shop = Shop(KINDS[0], tmp_path)
    CURRENT[:] = [shop]
    BODIES.clear()
    return shop


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_does_it_once(commits: bool, make_place: Places, tmp_path: Path) -> None:
    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            folder = tmp_path / str(number)
            folder.mkdir()
            shop = in_file(folder)
            place = make_place()
            engine = place.engine(lambda inner: Mortal(inner, number, commits, Ledger()))
            await engine.__aenter__()
            store: Any = engine._store
            handle = await engine.start(sells(), id="a")
            driving = asyncio.ensure_future(handle.result())
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            for task in (driving, dying):
                task.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                again = engine.get("a") if died else await engine.start(sells(), id="a")
                assert await again.result() == ["sold book", "sold pen"]
            assert shop.sold() == ["book", "pen"], f"died at append {number}"
        assert number > 3

    run(main)


def test_a_commit_of_unknown_outcome_is_looked_up(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has happened, and the answer was lost."""
    shop = in_file(tmp_path)
    cuts = [1]
    begun = databases._begun_on_sqlite

    @contextlib.contextmanager
    def cut_off(connection: Any) -> Any:
        with begun(connection):
            yield
        if BODIES and cuts:
            cuts.pop()
            raise ConnectionResetError("the line is dead")

    monkeypatch.setattr(databases, "_begun_on_sqlite", cut_off)

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(sells(), id="a") == ["sold book", "sold pen"]
            (failed,) = await of_kind(engine.get("a"), events.StepAttemptFailed)
            assert failed.failure.type.endswith("OutcomeUnknown")
        assert shop.sold() == ["book", "pen"]
        assert BODIES == ["book", "pen"]

    run(main)


def test_two_attempts_at_once_do_it_once(tmp_path: Path) -> None:
    """A worker that was taken for dead goes on: the second attempt waits, and finds the first one's result."""
    shop = Shop(next(kind for kind in KINDS if kind.name == "psycopg-async"), tmp_path)
    CURRENT[:] = [shop]
    BODIES.clear()
    go_on = asyncio.Event()

    definitions._steps.pop("shop.sell", None)

    @step(transaction=shop.database, name="shop.sell")
    async def sell(connection: Any, item: str) -> str:
        BODIES.append(item)
        await connection.execute("INSERT INTO sold (item) VALUES (%s)", [item])
        if len(BODIES) == 1:
            await go_on.wait()
        return f"sold {item} ({len(BODIES)})"

    shop.sell = sell

    async def main() -> None:
        async with perdure.Engine("memory:") as first, perdure.Engine("memory:") as second:
            runs = [await engine.start(sells(), id="a") for engine in (first, second)]
            while not BODIES:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.1)
            assert BODIES == ["book"]
            go_on.set()
            results = await asyncio.gather(*(handle.result() for handle in runs))
            assert results[0][0] == results[1][0] == "sold book (1)"
        assert shop.sold() == ["book", "pen"]

    run(main)


def test_a_function_that_commits_by_itself_is_found_out(place: Place, tmp_path: Path) -> None:
    shop = in_file(tmp_path)
    definitions._steps.pop("shop.sell", None)

    @step(transaction=shop.database, name="shop.sell", retry=Retry(max_attempts=2, initial=0.001))
    def sell(connection: Any, item: str) -> str:
        connection.execute("INSERT INTO sold (item) VALUES (?)", [item])
        connection.commit()
        return item

    shop.sell = sell

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="ended its transaction by itself"):
                await engine.run(sells(), id="a")
        assert shop.sold() == ["book"]

    run(main)


def test_a_result_that_cant_be_kept_is_rolled_back(place: Place, tmp_path: Path) -> None:
    shop = in_file(tmp_path)
    definitions._steps.pop("shop.sell", None)

    @step(transaction=shop.database, name="shop.sell")
    def sell(connection: Any, item: str) -> str:
        connection.execute("INSERT INTO sold (item) VALUES (?)", [item])
        return object()  # type: ignore[return-value]

    shop.sell = sell

    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(perdure.RunFailed, match=r"result of step shop\.sell"):
                await engine.run(sells(), id="a")
        assert shop.sold() == []

    run(main)


def test_an_attempt_nobody_waits_for_is_rolled_back(place: Place, tmp_path: Path) -> None:
    """Its thread can't be interrupted, but it doesn't commit any more."""
    shop = in_file(tmp_path)
    definitions._steps.pop("shop.sell", None)

    @step(
        transaction=shop.database, name="shop.sell", timeout=0.05, retry=Retry(initial=0.001, max_attempts=5)
    )
    def sell(connection: Any, item: str) -> str:
        connection.execute("INSERT INTO sold (item) VALUES (?)", [item])
        info = perdure.step_info()
        while item == "book" and info.attempt == 1 and not info.cancelled:
            pass
        return f"{item} {info.attempt}"

    shop.sell = sell

    async def main() -> None:
        async with place.engine() as engine:
            first, _ = await engine.run(sells(), id="a")
            assert first != "book 1"
        assert shop.sold() == ["book", "pen"]

    run(main)


def test_outside_of_an_engine_it_is_a_plain_transaction(tmp_path: Path) -> None:
    shop = in_file(tmp_path)

    async def main() -> None:
        assert await shop.sell("book") == "sold book"
        with pytest.raises(ValueError, match="no"):
            await shop.sell("lamp", fails=True)
        assert shop.sold() == ["book"]
        with pytest.raises(TypeError, match="item"):
            shop.sell()
        with contextlib.closing(sqlite3.connect(shop.at)) as connection, connection:
            assert shop.sell.function(connection, "pen") == "sold pen"
        assert shop.sold() == ["book", "pen"]

    run(main)


def test_what_doesnt_fit_is_refused(tmp_path: Path) -> None:
    def make() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "x.db")

    with pytest.raises(ConfigurationError, match="add a parameter"):

        @step(transaction=make)
        def takes_nothing() -> None: ...

    with pytest.raises(ConfigurationError, match="exactly once already"):
        step(transaction=make, once=True)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="give a psycopg pool"):
        step(transaction=42)
    with contextlib.closing(make()) as connection, pytest.raises(ConfigurationError, match="can't be shared"):
        step(transaction=connection)
    with pytest.raises(ConfigurationError, match="is async and its transaction= isn't"):

        @step(transaction=sqlalchemy.create_engine("sqlite://"))
        async def waits(connection: Any) -> None: ...

    @step(transaction=make, name="shop.mismatch")
    async def waits_too(connection: Any) -> None: ...

    @step(transaction=lambda: psycopg.AsyncConnection.connect("host=/nowhere"), name="shop.mismatch2")
    def doesnt_wait(connection: Any) -> None: ...

    @step(transaction=lambda: 42, name="shop.mismatch3")
    def gets_nonsense(connection: Any) -> None: ...

    async def main() -> None:
        with pytest.raises(ConfigurationError, match="is async and its transaction= isn't"):
            await waits_too()
        with pytest.raises(ConfigurationError, match="write it as `async def`"):
            await doesnt_wait()
        with pytest.raises(ConfigurationError, match="give a psycopg pool"):
            await gets_nonsense()

    run(main)


def test_lost_connections_are_tried_again() -> None:
    from perdure.core.retry import TRANSACTION_RETRY

    assert TRANSACTION_RETRY.covers(psycopg.errors.SerializationFailure())
    assert TRANSACTION_RETRY.covers(psycopg.OperationalError("gone"))
    assert TRANSACTION_RETRY.covers(apsw.BusyError())
    assert TRANSACTION_RETRY.covers(
        sqlalchemy.exc.OperationalError("x", {}, psycopg.OperationalError("gone"))
    )
    assert TRANSACTION_RETRY.covers(OSError())
    assert not TRANSACTION_RETRY.covers(psycopg.errors.UniqueViolation())
    assert not TRANSACTION_RETRY.covers(sqlite3.OperationalError("no such table: x"))
    assert not perdure.Retry(on=(OSError,)).covers(OutcomeUnknown())


def test_reaching_for_a_missing_server_is_tried_again(place: Place, tmp_path: Path) -> None:
    definitions._steps.pop("shop.sell", None)
    shop = in_file(tmp_path)
    tries: list[int] = []

    def connect() -> Any:
        tries.append(1)
        if len(tries) < 4:
            raise ConnectionRefusedError("nobody there")
        return sqlite3.connect(shop.at)

    definitions._steps.pop("shop.sell", None)

    @step(transaction=connect, name="shop.sell", retry=Retry(initial=0.001, on=(OSError,)))
    def sell(connection: Any, item: str) -> str:
        connection.execute("INSERT INTO sold (item) VALUES (?)", [item])
        return item

    shop.sell = sell

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sells(), id="a")
            await reaches(handle, "completed")
        assert shop.sold() == ["book", "pen"]

    run(main)
