"""Takes runs over: whenever something may be due, claims it, loads its history, and has it replayed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from perdure.errors import StoreError
from perdure.runtime.capacity import Capacity, Share
from perdure.runtime.observing import Observer
from perdure.runtime.residency import Residency
from perdure.runtime.timers import Alarm, Timers
from perdure.runtime.trials import Trials
from perdure.runtime.uptake import load
from perdure.storage.protocol import Store
from perdure.storage.records import History, RunRow

logger = logging.getLogger("perdure.worker")

RETRY_AFTER = 0.5  #: seconds until the next claim after one that failed
CLAIM_MAX = 256  #: runs claimed at a time, so that a backlog doesn't keep the loop from its other work


class Claims:
    """The claims of one worker.

    Args:
        worker: tells the id of the worker that claims.
        capacity: where it looks, and how many of what it may take.
        take: brings a claimed run into memory; it is told which of its streams exist.
        taken: called when runs have been taken over.
        spread: seconds to wait longer for the moment that a run is due, which all workers know.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        timers: Timers,
        residency: Residency,
        worker: Callable[[], int],
        capacity: Capacity,
        *,
        take: Callable[[RunRow, History, Sequence[str]], Awaitable[None]],
        taken: Callable[[], None],
        spread: Callable[[], float],
    ) -> None:
        self._store = store
        self._clock = clock
        self._timers = timers
        self._residency = residency
        self._worker = worker
        self._capacity = capacity
        capacity.hear(self.poke)  # errands may have been left in the store for want of room
        self._take = take
        self._taken = taken
        self._spread = spread
        self.observer: Observer | None = None
        self._waits = False
        self._freed = False
        self._evicting = 1  # how many runs are to make room, if there is none
        self._poked = asyncio.Event()
        self._stopped = False
        self._next_claim: Alarm | None = None
        self._trials = Trials(clock, timers, residency.drivers, self.poke)

    @property
    def alone(self) -> bool:
        """Nothing may come to this worker at the moment but what it tries."""
        return self._trials.alone

    def poke(self) -> None:
        """Something may be due."""
        self._poked.set()

    def stop(self) -> None:
        """Claim no more; `run` ends after a claim that is under way."""
        self._stopped = True
        self._poked.set()

    def freed(self) -> None:
        """A run has ended; others may wait for its slot."""
        self._freed = True
        if self._waits:
            self.poke()

    async def run(self) -> None:
        """Claim whenever something may be due."""
        while True:
            await self._poked.wait()
            if self._stopped:
                return
            self._poked.clear()
            try:
                await self._claim()
            except StoreError as error:
                if self.observer is not None:
                    self.observer.refused("claim", error)
                logger.warning("couldn't claim runs, will try again: %s", error)
                self._timers.at(self._clock() + RETRY_AFTER, self.poke)
            except Exception:  # else this worker would look alive, and claim nothing any more
                logger.critical("claiming runs failed, will try again", exc_info=True)
                self._timers.at(self._clock() + RETRY_AFTER, self.poke)

    async def _claim(self) -> None:
        room = self._residency.room()
        if room == 0 or (self._evicting > 1 and room < CLAIM_MAX // 4):
            # one, to see whether anything is due at all, then more and more as long as that doesn't suffice
            self._residency.make_room(self._evicting)
        limit = min(CLAIM_MAX, self._residency.room())
        if limit == 0:
            self._claim_at(self._clock() + 0.05)
            return
        self._waits = self._freed = False
        evicting, self._evicting = self._evicting, 1
        for share in self._capacity.shares(limit):
            if self._trials.alone:
                return  # until that is over
            if await self._claim_share(share):
                self._evicting = evicting * 2
        if self._waits and self._freed:  # perhaps after these claims had counted
            self.poke()

    async def _claim_share(self, share: Share) -> bool:
        """Whether it has taken all that there was room for."""
        claimed = await self._store.claim(
            self._worker(),
            workflows=share.workflows,
            queues=self._capacity.queues,
            now=self._clock(),
            limit=share.room,
            suspected=self._trials.upto(),
        )
        if self.observer is not None and claimed.rows:
            self.observer.claimed(claimed.rows)
        self._waits = self._waits or claimed.waits
        tried = self._trials.claimed(claimed.rows)
        try:
            if claimed.rows:
                loaded = await load(self._store, claimed.rows)
                for row, (history, emitting) in zip(claimed.rows, loaded, strict=True):
                    await self._take(row, history, emitting)
                self._taken()
        finally:
            if tried:
                self._trials.begin(claimed.rows)
        if not tried and claimed.suspected is not None:
            self._claim_at(self._trials.again_at(claimed.suspected))
        if len(claimed.rows) == share.room:
            self.poke()
            return True
        if claimed.next_at is not None:
            self._claim_at(claimed.next_at + self._spread())
        return False

    def _claim_at(self, due: float) -> None:
        """Claim again at `due`, or earlier if that is planned already."""
        if self._next_claim is None or self._next_claim.action is None or due < self._next_claim.due:
            if self._next_claim is not None:
                self._next_claim.cancel()
            self._next_claim = self._timers.at(due, self._claim_now)

    def _claim_now(self) -> None:
        self._next_claim = None
        self.poke()
