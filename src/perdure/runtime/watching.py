"""Looks again and again for what is to be done in the store: when poked at once, after hints soon, by the clock."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from collections.abc import Callable

from perdure.errors import StoreError
from perdure.runtime.timers import Alarm, Timers

logger = logging.getLogger("perdure.watching")

#: Seconds before the next look after one that the store refused.
RETRY_EVERY = 0.5
#: The same after one that failed for a reason of the engine's own.
TROUBLE_PAUSE = 5.0


class Watch:
    """What every worker looks for; who finds it first does it, by one transaction of the store.

    Attributes:
        hint_pause: least seconds between two looks that mere hints lead to.
    """

    hint_pause = 0.25

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], timers: Timers) -> None:
        self._loop = loop
        self._clock = clock
        self._timers = timers
        self._poked = asyncio.Event()
        self._alarm: Alarm | None = None
        self._looked_at = float("-inf")
        self._hinted = False  # a hint has a look planned

    @abstractmethod
    async def look(self) -> None:
        """Do what there is to do."""

    @abstractmethod
    def refused(self, error: StoreError) -> None:
        """Tell people that the store couldn't be reached."""

    @property
    def planned(self) -> bool:
        """Whether a look is going to be taken soon, because of hints."""
        return self._hinted

    def poke(self) -> None:
        """There may be something to do: look at once."""
        self._poked.set()

    def hint(self) -> None:
        """Something has happened that may lead to something to do: look soon, but not for every such hint."""
        if self._hinted:
            return  # many of them come while runs end
        pause = self._looked_at + self.hint_pause - self._loop.time()
        if pause <= 0:
            self.poke()
        else:
            self._hinted = True
            self._loop.call_later(pause, self.poke)

    async def run(self) -> None:
        """Look, for ever."""
        self.poke()
        while True:
            await self._poked.wait()
            self._poked.clear()
            self._hinted = False
            self._looked_at = self._loop.time()
            try:
                await self.look()
            except StoreError as error:
                self.refused(error)
                self.look_at(self._clock() + RETRY_EVERY)
            except Exception:  # the engine's own: without this task nothing would be looked for any more
                logger.critical("%s failed, will try again", type(self).__name__, exc_info=True)
                self.look_at(self._clock() + TROUBLE_PAUSE)

    def look_at(self, due: float) -> None:
        """Look again at `due`, or earlier if that is planned already."""
        if self._alarm is None or self._alarm.action is None or due < self._alarm.due:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = self._timers.at(due, self.poke)
