"""Publishing in the user's own transaction: with its commit, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from engine_kit import Place, run, until
from publication_kit import listening, loops

import perdure
from helpers.postgres import lent_database
from perdure import Engine
from perdure.errors import ConfigurationError, PayloadTooLargeError

psycopg: Any = pytest.importorskip("psycopg")
sqlalchemy: Any = pytest.importorskip("sqlalchemy")
pytest.importorskip("sqlalchemy.ext.asyncio")
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with lent_database() as lent:
        yield lent


def alchemy(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://")


async def payloads(engine: Engine) -> list[Any]:
    return sorted([one.payload async for one in engine.publications("paid", limit=None)], key=str)


def opened(url: str) -> list[Any]:
    """Publishes twice on each kind of connection, one of which is rolled back."""

    def plain(name: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            with connection.transaction():
                connection.execute("SELECT 1")
                perdure.publish_in(connection, "paid", {"by": name}, key=name)
            with connection.transaction():
                perdure.publish_in(connection, "paid", {"by": f"not {name}"})
                raise psycopg.Rollback

    def rows_as_dicts(name: str) -> None:
        with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
            perdure.publish_in(connection, "paid", {"by": name})

    def sa_connection(name: str) -> None:
        engine = sqlalchemy.create_engine(alchemy(url))
        with engine.begin() as connection:
            perdure.publish_in(connection, "paid", {"by": name})
        with engine.connect() as connection:
            perdure.publish_in(connection, "paid", {"by": f"not {name}"})
        engine.dispose()

    def sa_session(name: str) -> None:
        engine = sqlalchemy.create_engine(alchemy(url))
        with Session(engine) as session:
            perdure.publish_in(session, "paid", {"by": name})
            session.commit()
            perdure.publish_in(session, "paid", {"by": f"not {name}"})
        engine.dispose()

    return [plain, rows_as_dicts, sa_connection, sa_session]


@pytest.mark.parametrize("place_of", range(4), ids=["psycopg", "dict-rows", "connection", "session"])
def test_sync_connections(url: str, place_of: int) -> None:
    async def main() -> None:
        publish = opened(url)[place_of]
        async with Engine(url) as engine:
            before = len(await payloads(engine))
            handle = await engine.start(loops("paid", 1, {"by": publish.__name__}))
            await asyncio.to_thread(publish, publish.__name__)
            assert await handle.result() == [{"by": publish.__name__}]
            assert len(await payloads(engine)) == before + 1

    run(main)


def test_async_connections(url: str) -> None:
    async def main() -> None:
        async with Engine(url) as engine:
            handle = await engine.start(loops("shipped", 3))
            connection: Any
            async with await psycopg.AsyncConnection.connect(url) as connection:
                await perdure.publish_in(connection, "shipped", 1)
            async with await psycopg.AsyncConnection.connect(url) as connection:
                await perdure.publish_in(connection, "shipped", "not")
                await connection.rollback()
            made = create_async_engine(alchemy(url))
            async with made.begin() as connection:
                await perdure.publish_in(connection, "shipped", 2)
            async with AsyncSession(made) as session:
                await perdure.publish_in(session, "shipped", "not")
                await session.rollback()
                await perdure.publish_in(session, "shipped", 3, key="k")
                await session.commit()
                await perdure.publish_in(session, "shipped", 4, key="k")
                await session.commit()
            await made.dispose()
            assert sorted(await handle.result()) == [1, 2, 3]

    run(main)


def test_one_that_is_committed_late_is_not_overlooked(url: str) -> None:
    """It is published first and committed last, when the run has got a later one."""

    async def main() -> None:
        async with Engine(url) as engine:
            handle = await engine.start(loops("late", 3), id="late")
            await listening(engine, "late")
            async with await psycopg.AsyncConnection.connect(url) as slow:
                await perdure.publish_in(slow, "late", "slow")
                for number in range(2):
                    await engine.publish("late", number)
                await listening(engine, "late", 3)
                assert not await handle.status() == "completed"
            assert await handle.result() == [0, 1, "slow"]

    run(main)


def test_an_open_transaction_with_the_same_key_holds_up_nobody_else(url: str) -> None:
    async def main() -> None:
        async with Engine(url) as engine:
            async with await psycopg.AsyncConnection.connect(url) as slow:
                await perdure.publish_in(slow, "same", 1, key="k")
                second = asyncio.create_task(engine.publish("same", 2, key="k"))
                handle = await engine.start(loops("other", 1))
                await engine.publish("other", 3)
                assert await handle.result() == [3]
                assert not second.done()
            assert await second is False
            assert [one.payload async for one in engine.publications("same")] == [1]

    run(main)


def test_in_a_transactional_step(url: str) -> None:
    def database() -> Any:
        return psycopg.connect(url)

    @perdure.step(name="publishin.pays", transaction=database)
    def pays(connection: Any, fails: bool) -> str:
        perdure.publish_in(connection, "step", "fails" if fails else "pays")
        if fails:
            raise ValueError("no")
        return "paid"

    @perdure.workflow(name="publishin.flow")
    async def flow() -> str:
        try:
            await pays(True)
        except ValueError:
            pass
        return await pays(False)

    async def main() -> None:
        async with Engine(url) as engine:
            assert await engine.run(flow()) == "paid"
            assert [one.payload async for one in engine.publications("step")] == ["pays"]

    run(main)


def test_on_a_sqlite_file(file: Place) -> None:
    async def main() -> None:
        async with file.engine() as engine:
            handle = await engine.start(loops("paid", 2), id="r")
            connection = apsw.Connection(str(file.path))
            connection.set_busy_timeout(10_000)
            with connection:
                perdure.publish_in(connection, "paid", 1)
            with pytest.raises(ZeroDivisionError), connection:
                perdure.publish_in(connection, "paid", "not")
                raise ZeroDivisionError
            await perdure.publish_in(connection, "paid", 2)
            connection.close()
            assert await handle.result() == [1, 2]

    run(main)


def test_what_it_does_not_take(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        with pytest.raises(ConfigurationError, match="two of them in one process"):
            perdure.publish_in(connection, "paid")
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection, pytest.raises(ConfigurationError, match="sqlite"):
        perdure.publish_in(connection, "paid")
    engine.dispose()
    with pytest.raises(ConfigurationError, match="give an open connection"):
        perdure.publish_in(None, "paid")
    with pytest.raises(ConfigurationError, match="key"):
        perdure.publish_in(None, "paid", key="")
    with pytest.raises(PayloadTooLargeError):
        perdure.publish_in(None, "paid", "x" * (2 * 1024 * 1024))


def test_a_worker_looks_without_hints(url: str) -> None:
    """Nobody tells it of what others have committed."""

    async def main() -> None:
        async with Engine(url) as engine:
            with psycopg.connect(url) as connection:
                perdure.publish_in(connection, "quiet", 1)

            async def settled() -> bool:
                return all([one.settled async for one in engine.publications("quiet")])

            await until(settled)

    run(main)
