"""What is kept is replaced piece by piece while others change it: only what is still as it was read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.postgres import lent_database
from perdure.storage.postgres import PostgresStore
from perdure.storage.protocol import Store
from perdure.storage.publications import Publication, new_id
from perdure.storage.records import MailKind
from perdure.storage.resealing import KINDS
from perdure.storage.sqlite import SqliteStore
from perdure.storage.streams import Emit
from perdure.testing.conformance.bench import NOW, Bench
from perdure.testing.conformance.schedules import schedule

KEPT = ("events", "mail", "items", "schedules", "publications")


@pytest.fixture(params=["sqlite", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    if request.param == "sqlite":
        yield lambda: SqliteStore(tmp_path / "test.db")
    else:
        with lent_database() as url:
            yield lambda: PostgresStore(url)


def test_what_was_changed_since_it_was_read_stays(make: Callable[[], Store]) -> None:
    async def main() -> None:
        bench = Bench(make)
        await bench.open()
        await fill(bench)
        for kind in KEPT:
            await one_kind(bench, kind)
        await bench.close()

    asyncio.run(main())


async def fill(bench: Bench) -> None:
    row = await bench.make("r", owner=await bench.worker())
    await bench.put(row, b"x", effects=[Emit("out", b"item")])
    await bench.store.send("r", b"mail", now=NOW, kind=MailKind.MESSAGE)
    await bench.store.schedules.create(schedule())
    await bench.store.publications.publish([Publication(new_id(), "paid", None, b"payload", NOW)])


async def one_kind(bench: Bench, kind: str) -> None:
    resealing = bench.store.resealing
    for piece in await resealing.pieces(kind, after=KINDS[kind], limit=100):
        assert await resealing.replace(kind, [(piece.key, b"of before", b"late")]) == 0, kind
        assert await resealing.replace(kind, [(piece.key, piece.data, b"new of " + kind.encode())]) == 1, kind
        assert await resealing.replace(kind, [(piece.key, piece.data, b"late")]) == 0, kind
    found = [piece.data for piece in await resealing.pieces(kind, after=KINDS[kind], limit=100)]
    assert set(map(bytes, found)) == {b"new of " + kind.encode()}
    assert found, kind
