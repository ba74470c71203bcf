"""What a worker has to read, and to put right, before it drives a run that others drove before.

The runs are claimed by then: if reading failed for good nobody would drive them, so it is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from perdure.core.commands import RunStep
from perdure.core.errands import step_of
from perdure.errors import StoreError
from perdure.runtime.driver import Driver
from perdure.runtime.entities import from_checkpoint
from perdure.runtime.feeding import replay
from perdure.runtime.machines import REPLAY_SLICE, set_aside_in
from perdure.runtime.past import past_of
from perdure.runtime.soundness import refuse_damaged
from perdure.storage.protocol import Store
from perdure.storage.records import History, RunRow

logger = logging.getLogger("perdure.uptake")

RETRY_EVERY = 0.5  #: seconds before the next try of what the store refused


async def load(store: Store, rows: Sequence[RunRow]) -> list[tuple[History, Sequence[str]]]:
    """The history of each run, and its steps that have put items into streams which still count."""
    runs = [row.run for row in rows]
    while True:
        try:
            steps: dict[int, list[str]] = {}
            for run, step in await store.streams.unsettled([_put_out_by(row) for row in rows]):
                steps.setdefault(run, []).append(step)
            loaded = await store.load(runs)
            return [
                (history, steps.get(_put_out_by(row), ())) for row, history in zip(rows, loaded, strict=True)
            ]
        except StoreError as error:
            logger.warning("couldn't read claimed runs, will try again: %s", error)
            await asyncio.sleep(RETRY_EVERY)


def _put_out_by(row: RunRow) -> int:
    """The run to which the items of a run's steps belong."""
    return row.parent if row.parent is not None and step_of(row.workflow) is not None else row.run


async def feed_history(driver: Driver, history: History) -> None:
    """Replay a run, other runs getting their turns in between. The driver is `gone` if its code doesn't fit.

    Raises:
        DamagedHistoryError: it isn't what was recorded; nothing was fed.
    """
    refuse_damaged(driver.id, history)
    machine = driver.machine
    history = from_checkpoint(driver.definition, history)
    machine.replaying = True
    machine.past = past_of(history)
    machine.look_ahead = lambda: set_aside_in(history.events)
    for start in range(0, len(history.events), REPLAY_SLICE):
        replay(driver, history.events[start : start + REPLAY_SLICE])
        if driver.gone:
            return
        await asyncio.sleep(0)
    machine.replaying = False
    machine.past = None
    machine.look_ahead = None


async def take_back(store: Store, driver: Driver, steps: Sequence[str]) -> bool:
    """What the lost attempt of a step has put into streams doesn't count, now that it is attempted again.

    Args:
        steps: those with items; only the ones that are still open, and not sent elsewhere, are attempted again.

    Returns:
        False if another worker drives the run by now.
    """
    operations = driver.machine.operations
    again = [
        step
        for step in steps
        if isinstance(operation := operations.get(step), RunStep) and operation.sent is None
    ]
    while again:
        try:
            return await store.streams.supersede(
                driver.run, driver.epoch, again, now=driver.now(), of=driver.streams_of
            )
        except StoreError as error:
            logger.warning("couldn't take back items of lost attempts, will try again: %s", error)
            await asyncio.sleep(RETRY_EVERY)
    return True
