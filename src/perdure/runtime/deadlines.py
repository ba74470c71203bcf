"""Looks after callbacks whose time may be over.

The store decides, since somebody may be completing the callback right now, or may have sent a heartbeat of which
nobody here has heard. What it decides comes by mail, as every end of a callback does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.core.commands import AwaitCallback
from perdure.errors import StoreError
from perdure.runtime.driver import Driver
from perdure.storage.callbacks import CallbackStore

logger = logging.getLogger("perdure.deadlines")

RETRY_EVERY = 0.5  #: seconds between attempts at what the store refused


class Deadlines:
    """What a worker does when the clock says that a callback of its runs is due.

    Args:
        aside: runs a coroutine in the background until the worker closes.
        told: called when mail may be there.
    """

    def __init__(
        self,
        store: CallbackStore,
        clock: Callable[[], float],
        aside: Callable[[Coroutine[Any, Any, None]], None],
        told: Callable[[], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._aside = aside
        self._told = told

    def look(self, run: Driver, operation: AwaitCallback) -> None:
        """Time a callback out, or find out until when it has time."""
        self._aside(self._look(run, operation))

    async def _look(self, run: Driver, operation: AwaitCallback) -> None:
        while True:
            try:
                deadline = await self._store.time_out(operation.token_hash, now=self._clock())
                break
            except StoreError as error:
                logger.warning("couldn't look after a callback, will try again: %s", error)
                await asyncio.sleep(RETRY_EVERY)
        if run.gone:
            return
        if deadline is None:
            self._told()
        else:
            run.work.watch_callback(operation, deadline)
