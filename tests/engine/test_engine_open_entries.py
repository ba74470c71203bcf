"""A body that may spend begins when the ledger has its open entry, and not by any other note that it has begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from engine_kit import Place, Wrapped, run

import perdure
from perdure import Retry, events, step, workflow
from perdure.codec.events import decode_event
from perdure.storage.ledger import EntryState
from perdure.storage.records import Append, Appended, Stale

PLACES: list[Place] = []


@step(spends=True, retry=Retry(initial=0.01, jitter=False))
async def pays() -> int:
    """Gives back how many calls the ledger has as open."""
    rows = [row for rows in PLACES[0].shared.usage.values() for row in rows.values()]
    if perdure.step_info().attempt == 1:
        raise ValueError("nothing was spent")
    return sum(row.state == EntryState.OPEN for row in rows)


@workflow
async def buys() -> int:
    return await pays()


class Stalling(Wrapped):
    """After an attempt has failed nothing goes on in its process for so long that all alarms are due at once."""

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        answer: Any = self.inner.append(batch)
        if any(
            isinstance(decode_event(data), events.StepAttemptFailed) for one in batch for data in one.events
        ):
            asyncio.get_running_loop().call_later(0.002, time.sleep, 0.3)
        return answer


def test_a_note_that_an_attempt_lasts_is_no_open_entry() -> None:
    async def main() -> None:
        place = Place()
        PLACES[:] = [place]
        async with place.engine(Stalling) as engine:
            handle = await engine.start(buys(), id="a")
            assert await handle.result() == 1

    run(main)
