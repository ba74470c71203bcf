"""An order as a saga: what was done is undone when a later step can't be, also after a kill -9 in the middle of that.

    python examples/order_saga.py [folder]

A warehouse, a bank and a carrier (files in the folder) take part. The carrier refuses the second order; the process is
killed after the first of its compensations. Another process finishes undoing, and each thing is given back once.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path

import perdure
from perdure import Engine, Permanent, Saga, step, workflow

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())


class Service:
    """A service elsewhere that recognises repeats by their key, and keeps a book."""

    def __init__(self, folder: Path, name: str) -> None:
        self._book = folder / f"{name}.jsonl"

    def book(self, what: str, key: str) -> None:
        if all(line["key"] != key for line in self.lines()):
            with self._book.open("a") as file:
                file.write(json.dumps({"what": what, "key": key}) + "\n")

    def lines(self) -> list[dict[str, str]]:
        return (
            [json.loads(line) for line in self._book.read_text().splitlines()] if self._book.exists() else []
        )


@step
async def reserve(folder: str, order: str) -> None:
    Service(Path(folder), "warehouse").book(f"reserve {order}", perdure.idempotency_key())


@step
async def release(folder: str, order: str) -> None:
    Service(Path(folder), "warehouse").book(f"release {order}", perdure.idempotency_key())


@step
async def charge(folder: str, order: str, cents: int) -> None:
    Service(Path(folder), "bank").book(f"charge {order} {cents}", perdure.idempotency_key())


@step
async def refund(folder: str, order: str, cents: int) -> None:
    Service(Path(folder), "bank").book(f"refund {order} {cents}", perdure.idempotency_key())
    deadly = Path(folder) / "deadly"
    if deadly.exists():
        deadly.unlink()
        os.kill(os.getpid(), signal.SIGKILL)  # the refund is booked, and not recorded


@step
async def ship(folder: str, order: str, country: str) -> str:
    if country == "Atlantis":
        raise Permanent(f"no ship goes to {country}")
    return f"parcel with {order} to {country}"


@workflow
async def place(folder: str, order: str, cents: int, country: str) -> str:
    try:
        async with Saga() as saga:
            saga.undo(release(folder, order))  # said before: a step that fails may have had its effect
            await reserve(folder, order)
            saga.undo(refund(folder, order, cents))
            await charge(folder, order, cents)
            return await ship(folder, order, country)
    except Permanent as error:
        return f"given back, as {error}"


def works(folder: str, order: str, country: str) -> None:
    async def drive() -> None:
        async with Engine(f"sqlite:///{folder}/orders.db") as engine:
            print(" ", order, "->", await engine.run(place(folder, order, 1990, country), id=order))

    asyncio.run(drive())


def main() -> None:
    spawn = multiprocessing.get_context("spawn")
    for order, country in (("teapot", "Peru"), ("piano", "Atlantis")):
        if country == "Atlantis":
            (FOLDER / "deadly").touch()
        for _ in range(2):
            process = spawn.Process(target=works, args=(str(FOLDER), order, country))
            process.start()
            process.join()
            if process.exitcode == 0:
                break
            print("  killed -9 while it undid; again:")
    for name in ("warehouse", "bank"):
        print(f"{name}: {', '.join(line['what'] for line in Service(FOLDER, name).lines())}")


if __name__ == "__main__":
    main()
