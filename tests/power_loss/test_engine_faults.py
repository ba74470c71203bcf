"""The n-th operation of the disk fails while an engine drives runs, for n = 1, 2, 3, ... until none is left to fail.

Once, or from then on for a while. Whoever is told of it simply tries again; the engine goes on by itself. Each step
happens as often as on a good disk, and each run ends as there.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

import apsw
import pytest
from orders import BOOK, ORDERS, PATIENCE, Book, expected, orders

from helpers.faulty_disk import FaultyDisk
from perdure import Engine
from perdure.errors import StoreError
from perdure.runtime import journal
from perdure.storage.sqlite import SqliteStore, writer
from perdure.testing.deeds import DATABASE, look

SOAK = os.environ.get("PERDURE_SOAK") == "1"
T = TypeVar("T")

#: (operation, what SQLite is told, every how many-th one is tried if time is short)
FAULTS = {
    "write-eio": ("write", apsw.SQLITE_IOERR_WRITE, 29),
    "write-full": ("write", apsw.SQLITE_FULL, 37),
    "sync-eio": ("sync", apsw.SQLITE_IOERR_FSYNC, 7),
    "truncate-eio": ("truncate", apsw.SQLITE_IOERR_TRUNCATE, 1),
    "read-eio": ("read", apsw.SQLITE_IOERR_READ, 7),
}
#: So many operations fail in a row where it isn't one only.
A_WHILE = 8


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_REPAIR_PAUSES", (0.0, 0.001, 0.001))
    monkeypatch.setattr(writer, "_RECONNECT_EVERY", 0.01)
    monkeypatch.setattr(journal, "RETRY_FIRST", 0.002)
    monkeypatch.setattr(journal, "RETRY_MAX", 0.02)


class Client:
    """Tries again whatever the store refuses.

    Attributes:
        told: how often that was.
    """

    def __init__(self, disk: FaultyDisk, path: Path) -> None:
        self._disk = disk
        self._path = path
        self.told = 0

    async def insists(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except StoreError as error:
                if "can't be used" not in str(error):
                    raise
                self.told += 1
                await asyncio.sleep(0.002)

    async def enters(self) -> Engine:
        engine = Engine(f"sqlite:///{self._path}", evict_after=PATIENCE)
        engine._store = SqliteStore(self._path, vfs=self._disk.name)
        return await engine.__aenter__()

    async def orders(self) -> None:
        engine = await self.insists(self.enters)
        try:
            ids = [f"order-{number}" for number in range(ORDERS)]
            handles = await self.insists(
                lambda: engine.start_many([orders(number) for number in range(ORDERS)], ids=ids)
            )
            for number, handle in enumerate(handles):
                await self.insists(lambda: handle.send("wish", f"wish {number}", key="wish"))
            for number, handle in enumerate(handles):
                assert await self.insists(handle.result) == expected(number)
        finally:
            await engine.__aexit__(None, None, None)


async def made(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.close()


async def works(disk: FaultyDisk, folder: Path) -> tuple[int, Counter[str]]:
    """Let an engine do all orders on this disk. Returns how often a client was told, and what bodies began."""
    path = folder / DATABASE
    await made(path)
    BOOK[0] = Book(None)
    client = Client(disk, path)
    async with asyncio.timeout(PATIENCE):
        await client.orders()
    look(folder)
    assert set(BOOK[0].effects.values()) == {1}
    return client.told, Counter(BOOK[0].bodies)


@pytest.mark.parametrize("times", [1, A_WHILE], ids=["once", "a-while"])
@pytest.mark.parametrize("fault", FAULTS)
def test_the_nth_operation_fails_under_an_engine(
    fault: str, times: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    operation, error, step = FAULTS[fault]
    usual: Counter[str] = Counter()
    told = tried = 0
    for nth in count(1, 1 if SOAK else step):
        disk = FaultyDisk()
        (folder := tmp_path / f"{nth}").mkdir()
        with disk.failing(operation, error, nth=nth, times=times):
            one, bodies = asyncio.run(works(disk, folder))
        usual = usual or bodies
        assert bodies == usual
        told += one
        if disk.faults == 0:
            break
        tried += 1
    assert tried > 0
    record_property("figure", f"{tried} times, clients were told {told} times, 0 lost, 0 done twice")
