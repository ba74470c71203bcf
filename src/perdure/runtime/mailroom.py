"""Brings runs their mail: inbox items in the store become events of the runs driven here.

Whoever commits something that puts mail into an inbox says so, in this process by a call, from others by
the store's hint. One look fetches the mail of all runs. A look that was under way when a run came into
memory isn't for that run: it has read its inbox itself, and what the look has seen may be taken already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from perdure.codec.events import decode_event
from perdure.errors import StoreError, UndecodableError
from perdure.runtime.driver import Driver
from perdure.storage.protocol import Store
from perdure.storage.records import Mail

logger = logging.getLogger("perdure.mailroom")

RETRY_EVERY = 0.5  #: seconds before the next look after one that the store refused


class Mailroom:
    """Looks for mail and hands it out.

    Args:
        worker: tells the id of the worker whose runs get mail.
        drivers: the runs in memory by run key.
        aside: runs a coroutine in the background.
    """

    def __init__(
        self,
        store: Store,
        worker: Callable[[], int],
        drivers: Mapping[int, Driver],
        aside: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._store = store
        self._worker = worker
        self._drivers = drivers
        self._aside = aside
        self._looking = False
        self._again = False
        self._closed = False

    def look_soon(self) -> None:
        """Something may have come by mail."""
        if self._looking:
            self._again = True
        elif not self._closed:
            self._looking = True
            self._aside(self._look())

    def close(self) -> None:
        self._closed = True

    async def _look(self) -> None:
        try:
            while True:
                self._again = False
                newest = Driver.made
                try:
                    found = await self._store.mail(self._worker())
                except StoreError as error:
                    logger.warning("couldn't read the mail, will try again: %s", error)
                    await asyncio.sleep(RETRY_EVERY)
                    continue
                by_run: dict[int, list[Mail]] = {}
                for item in found:
                    by_run.setdefault(item.run, []).append(item)
                for run, items in by_run.items():
                    driver = self._drivers.get(run)
                    if driver is not None and driver.number <= newest:
                        hand_out(driver, items)
                if not self._again:
                    return
        finally:
            self._looking = False


def hand_out(driver: Driver, items: Sequence[Mail]) -> None:
    """Hand a run its mail; mail that can't be read blocks the run it is for, and no other."""
    try:
        events = [(item.id, decode_event(item.data)) for item in items]
    except UndecodableError as error:
        driver.block(error)
    else:
        driver.take_mail(events)
