"""A program for an engine whose disk is recorded, and the books that its steps keep outside of the database."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import perdure
from perdure import Done, Engine, Retry, events, step, workflow
from perdure.codec.events import decode_event
from perdure.storage.sqlite import SqliteStore
from perdure.testing.deeds import DATABASE, Deeds, Found, Moment, Witness
from perdure.testing.disk import RecordingDisk

ORDERS = 4
PATIENCE = 60.0


class Book:
    """What bodies did; no loss of power takes anything out of it.

    Args:
        disk: in whose log it is written down, too, if it is recorded.
    """

    def __init__(self, disk: RecordingDisk | None, effects: Counter[str] | None = None) -> None:
        self._disk = disk
        self.bodies: list[str] = []
        self.effects: Counter[str] = Counter(effects or {})

    def begins(self) -> None:
        info = perdure.step_info()
        self.bodies.append(key := f"{info.run_id}:{info.step_id}")
        self.mark(("body", key))

    def charged(self) -> None:
        key = perdure.idempotency_key()
        self.effects[key] += 1
        self.mark(("effect", key))

    def mark(self, value: Any) -> None:
        if self._disk is not None:
            self._disk.mark(value)


BOOK = [Book(None)]  #: the one in use


@step
async def packs(label: str) -> str:
    BOOK[0].begins()
    return f"packed {label}"


@step
def weighs(label: str) -> int:
    BOOK[0].begins()
    return len(label)


@step(retry=Retry(initial=0.001, jitter=False))
async def comes_second(label: str) -> str:
    BOOK[0].begins()
    if perdure.step_info().attempt == 1:
        raise OSError("not yet")
    return label


async def was_charged(number: int) -> Done[str] | None:
    await asyncio.sleep(0)
    return Done(f"charged {number}") if BOOK[0].effects[perdure.idempotency_key()] else None


@step(once=True, verify=was_charged)
async def charges(number: int) -> str:
    BOOK[0].begins()
    BOOK[0].charged()
    return f"charged {number}"


@workflow
async def ships(label: str) -> str:
    await asyncio.sleep(0.001)
    return await packs(label)


@workflow
async def orders(number: int) -> list[Any]:
    first = await charges(number)
    both = await asyncio.gather(packs("a" * 3000), weighs("bb"), comes_second("c"))
    await asyncio.sleep(0.002)
    wish = await perdure.receive("wish", str)
    return [first, len(both[0]), *both[1:], await ships(wish)]


def expected(number: int) -> list[Any]:
    return [f"charged {number}", 3007, 2, "c", f"packed wish {number}"]


async def drive(engine: Engine, now: Moment) -> None:
    """Be the client: start the orders, send what they wait for, take their results. Again, if that was cut short."""
    handles = await engine.start_many(
        [orders(number) for number in range(ORDERS)], ids=[f"order-{number}" for number in range(ORDERS)]
    )
    for number, handle in enumerate(handles):
        if handle.id not in now.sent:  # what was acknowledged isn't sent again
            await handle.send("wish", f"wish {number}", key="wish")
            BOOK[0].mark(("sent", handle.id))
    async with asyncio.timeout(PATIENCE):
        for number, handle in enumerate(handles):
            result = await handle.result()
            BOOK[0].mark(("answer", handle.id, result))
            assert result == expected(number)


async def work(folder: Path, now: Moment) -> tuple[Deeds, Book]:
    """Let an engine do all orders on a recorded disk in this folder, or finish what was begun there."""
    disk = RecordingDisk(folder)
    deeds = Deeds(disk)
    BOOK[0] = Book(disk, now.effects)
    store = SqliteStore(folder / DATABASE, vfs=disk.name)
    if (folder / DATABASE).exists():
        await bury(store)
    engine = Engine(f"sqlite:///{folder / DATABASE}")
    engine._store = Witness(store, deeds)  # type: ignore[assignment]
    async with engine:
        disk.mark("opened")
        await drive(engine, now)
    return deeds, BOOK[0]


async def bury(store: SqliteStore) -> None:
    """Declare the worker of before dead: its process, this one, lives on."""
    await store.open()
    for worker in await store.workers():
        await store.bury(worker.id, worker.lease_until, now=time.time(), max_recoveries=10)
    await store.close()


def recorded(deeds: Deeds, now: Moment, found: Found) -> set[str]:
    """Run and step of all outcomes that were acknowledged by then."""
    return {
        f"{found.ids[run]}:{event.step}"
        for number in now.done
        for (run, _), data in deeds.all[number].events.items()
        if isinstance(event := decode_event(data), events.StepCompleted | events.StepFailed)
    }
