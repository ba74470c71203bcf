"""A pool of three printers that many runs share: an entity lends them out, in turn, and takes back what nobody returns.

    python examples/resource_pool.py

Runs ask the pool, and wait for a message when it has nothing. One of them is terminated while it holds a printer: a
lease ends that, so the printer isn't lost.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field

import perdure
from perdure import Engine, step, workflow

LEASE = 2.0  # seconds that a run may keep a printer without saying so again


@dataclass
class PoolState:
    free: list[str] = field(default_factory=lambda: ["red", "green", "blue"])
    lent: dict[str, str] = field(default_factory=dict[str, str])  # by run
    until: dict[str, float] = field(default_factory=dict[str, float])
    line: list[str] = field(default_factory=list[str])


@perdure.entity(name="printers")
class Printers:
    state: PoolState

    async def take(self, run: str) -> str | None:
        """A printer, or None: then a message "printer" comes when it is this run's turn."""
        await self._reclaim()
        if self.state.free and not self.state.line:
            return self._lend(run)
        self.state.line.append(run)
        return None

    async def give_back(self, run: str) -> None:
        self._take_back(run)
        await self._serve()

    async def look(self) -> dict[str, int]:
        """Somebody has to look for leases that are over; a schedule could."""
        await self._reclaim()
        return {"free": len(self.state.free), "lent": len(self.state.lent), "waiting": len(self.state.line)}

    def _lend(self, run: str) -> str:
        printer = self.state.free.pop(0)
        self.state.lent[run] = printer
        self.state.until[run] = perdure.now().timestamp() + LEASE
        return printer

    def _take_back(self, run: str) -> None:
        printer = self.state.lent.pop(run, None)
        self.state.until.pop(run, None)
        if printer is not None:
            self.state.free.append(printer)

    async def _serve(self) -> None:
        while self.state.free and self.state.line:
            run = self.state.line.pop(0)
            await perdure.send(run, "printer", self._lend(run))

    async def _reclaim(self) -> None:
        now = perdure.now().timestamp()
        for run in [run for run, until in self.state.until.items() if until <= now]:
            self._take_back(run)
        await self._serve()


@step
async def print_page(printer: str, page: str) -> str:
    await asyncio.sleep(0.05)
    return f"{page} on {printer}"


@workflow
async def job(page: str, stuck: bool = False) -> str:
    me = perdure.info().id
    pool = perdure.entity(Printers, "office")
    printer = await pool.take(me)
    if printer is None:
        printer = await perdure.receive("printer", str)
    if stuck:
        await asyncio.sleep(3600)
    try:
        return await print_page(printer, page)
    finally:
        await pool.give_back(me)


async def seen(pool: Printers, **wanted: int) -> dict[str, int]:
    """Look until the pool is as it should be."""
    while not wanted.items() <= (found := await pool.look()).items():  # noqa: ASYNC110 - it is elsewhere
        await asyncio.sleep(0.1)
    return found


async def main(url: str) -> None:
    async with Engine(url) as engine:
        pool = engine.entity(Printers, "office")
        stuck = await engine.start(job("jammed", stuck=True), id="stuck")
        await seen(pool, lent=1)
        handles = await engine.start_many([job(f"page {n}") for n in range(10)])
        print(
            len([await handle.result() for handle in handles]),
            "pages are printed on the two printers that are left",
        )
        await stuck.terminate("its paper is jammed")  # it gives nothing back
        print("all is given back:", await seen(pool, free=3))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(f"sqlite:///{place}/pool.db"))
