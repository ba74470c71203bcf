"""A body that may spend begins when the ledger has its open entry, and not by any other note that it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from engine_kit import Place, run, until

import perdure
from perdure import Retry, events, step, workflow
from perdure.codec.events import decode_event
from perdure.storage.ledger import EntryState
from perdure.storage.records import Append, Appended, Stale
from perdure.testing.mortal import Wrapped

PLACES: list[Place] = []
GATES: list[asyncio.Event] = []

TURNS = 300  #: of the event loop: more than a step takes to begin


@step
async def takes_the_room() -> None:
    await GATES[0].wait()


@step(name="entries.pays", spends=True, retry=Retry(initial=0.01, jitter=False))
async def pays() -> int:
    """Fails once, then gives back how many calls the ledger has as open."""
    if perdure.step_info().attempt == 1:
        await GATES[1].wait()
        raise ValueError("nothing was spent")
    rows = [row for rows in PLACES[0].shared.usage.values() for row in rows.values()]
    return sum(row.state == EntryState.OPEN for row in rows)


@workflow
async def holds() -> None:
    await takes_the_room()


@workflow
async def buys() -> int:
    return await pays()


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class Held(Wrapped):
    """The first note that the second attempt has begun comes to the log when it may; the next one takes its time.

    Attributes:
        noted: that note is on its way.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.noted = asyncio.Event()
        self.may = asyncio.Event()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        if not any(map(_tells_of_it, batch)):
            return self.inner.append(batch)
        again = self.noted.is_set()
        self.noted.set()
        return asyncio.ensure_future(self._later(batch, again))

    async def _later(self, batch: Sequence[Append], again: bool) -> list[Appended | Stale]:
        await (turns() if again else self.may.wait())
        answers: list[Appended | Stale] = await self.inner.append(batch)
        return answers


def _tells_of_it(append: Append) -> bool:
    found = [decode_event(data) for data in append.events]
    return any(isinstance(event, events.StepStarted) and event.attempt == 2 for event in found)


def test_a_note_that_an_attempt_lasts_is_no_open_entry() -> None:
    """It stands in line for so long that this is noted, and begins while that note is on its way."""

    async def main() -> None:
        place = Place()
        PLACES[:], GATES[:] = [place], [asyncio.Event(), asyncio.Event()]
        async with place.engine(Held, concurrency=1) as engine:
            held: Any = engine._store
            handle: perdure.Handle[int] = await engine.start(buys(), id="pays")
            first = await engine.start(holds(), id="holds")
            assert engine._worker is not None
            steps: Any = engine._worker.steps
            await until(lambda: steps.occupied == 2)
            GATES[1].set()
            await held.noted.wait()
            GATES[0].set()
            await turns()
            held.may.set()
            assert await handle.result() == 1
            await first.result()
            started = [event async for event in handle.history() if isinstance(event, events.StepStarted)]
            assert [event.attempt for event in started] == [1, 2, 2], "it was noted before it began"

    run(main)
