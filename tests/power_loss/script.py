"""A script for the store alone: appends of all kinds, children, mail, checkpoints, closing and opening."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw

from perdure.errors import StoreUnavailableError
from perdure.storage.records import RunRow
from perdure.storage.sqlite import SqliteStore
from perdure.testing.conformance.bench import NOW, Bench
from perdure.testing.deeds import DATABASE, Deeds
from perdure.testing.disk import RecordingDisk

RUNS = 4


async def play(
    folder: Path, seed: int, rounds: int, *, fails: Callable[[], bool] = lambda: False, alone: bool = False
) -> Deeds:
    """Play it on a new database in this folder, recording.

    Args:
        fails: whether the next sync fails. Not so often in a row that the store gives up.
        alone: no readers, not even the store's own, mostly.
    """
    disk = RecordingDisk(folder, fails)
    script = _Script(Deeds(disk), folder / DATABASE, random.Random(seed), readers=not alone)
    await script.open()
    for number in range(rounds):
        if number % 17 == 16:
            await script.open()
        if alone:
            store: Any = script.bench.store
            store._reader._disconnect()
        await script.round(number)
    script.release()
    await script.bench.close()
    return script.deeds


class _Script:
    def __init__(self, deeds: Deeds, path: Path, chance: random.Random, *, readers: bool) -> None:
        self.deeds = deeds
        self.path = path
        self.chance = chance
        self.readers = readers
        self.reader: Any = None
        self.bench = Bench(lambda: SqliteStore(path, vfs=deeds.disk.name))
        self.rows: list[RunRow] = []
        self.seqs: dict[int, int] = {}
        self.asked: set[int] = set()

    def look(self) -> None:
        """Begin to look at the database, and stop checkpoints half-way with that for some rounds; or end it."""
        if self.reader is not None:
            self.release()
        elif self.readers:
            self.reader = apsw.Connection(str(self.path), vfs=self.deeds.disk.name)
            self.reader.set_busy_timeout(1000)
            self.reader.execute("BEGIN; SELECT count(*) FROM runs").get

    def release(self) -> None:
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close(force=True)

    async def open(self) -> None:
        self.release()
        await self.bench.close()
        while True:
            try:
                await self.bench.open()
                break
            except StoreUnavailableError:
                pass  # a sync failed
        self.deeds.disk.mark("opened")
        if not self.rows:
            worker = await self.bench.worker()
            new = [self.bench.new(f"run-{number}", owner=worker) for number in range(RUNS)]
            made = await self.deeds.do(self.bench.store.create(new), made=[run.id for run in new])
            self.rows = [one.row for one in made]
            self.seqs = {row.run: row.seq for row in self.rows}

    async def round(self, number: int) -> None:
        """Some deeds at once: they share a transaction, mostly. One alone goes the short way."""
        self.asked.clear()
        if self.chance.random() < 0.25:
            self.look()
        together = self.chance.choice((1, 1, 1, 2, 3, 5))
        await asyncio.gather(*[await self.deed(f"{number}.{part}") for part in range(together)])

    async def deed(self, name: str) -> Awaitable[Any]:
        row = self.chance.choice(self.rows)
        kind = self.chance.random()
        store = self.bench.store
        if kind < 0.1:
            new = [self.bench.new(f"{name}/{part}") for part in range(self.chance.randint(1, 3))]
            return self.deeds.do(store.create(new), made=[run.id for run in new])
        if kind < 0.25:
            mail = f"mail {name}".encode()
            return self.deeds.do(store.send(row.id, mail, now=NOW), sent=[mail])
        return self.append(row, name, kind, await store.inbox(row.run) if kind < 0.4 else [])

    def append(self, row: RunRow, name: str, kind: float, mail: Any) -> Awaitable[Any]:
        if row.run in self.asked:
            mail = []
        self.asked.add(row.run)
        size = self.chance.choice((10, 100, 1000, 9000))
        events = [
            f"{name}:{part} ".encode() + self.chance.randbytes(size)
            for part in range(self.chance.choice((1, 1, 2, 5)))
        ]
        seq = self.seqs[row.run]
        children = [self.bench.new(f"{name}/child")] if kind > 0.9 else []
        change = self.bench.change(
            row, *events, expected=seq, children=children, consumed=[item.id for item in mail]
        )
        self.seqs[row.run] = seq + len(events)
        return self.deeds.do_soon(
            lambda: self.bench.store.append([change]),
            {
                "events": {(row.run, seq + 1 + place): event for place, event in enumerate(events)},
                "made": [child.id for child in children],
                "taken": [item.data for item in mail],
            },
        )
