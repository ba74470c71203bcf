"""This worker among the others: signing up, staying alive in their eyes, and noticing who isn't.

A worker has one row in the store, with a lease that it extends by a heartbeat. Whoever sees that another
one is dead (its process is gone from this host, or its lease has run out) removes the row, which makes its
runs due for everybody, in their next epoch. Leases decide only when a take-over happens: that a worker
wrongly held for dead can do no harm is up to the epochs in every append.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from perdure.errors import StoreError
from perdure.runtime.definitions import registered, workflow_names
from perdure.runtime.liveness import born, host_identity, process_gone
from perdure.runtime.settings import Settings
from perdure.runtime.unbegun import end_unbegun
from perdure.storage.protocol import Store
from perdure.storage.workers import WorkerRow

logger = logging.getLogger("perdure.fleet")

LOOK_EVERY = 0.25  #: seconds between looks at the other workers
ROUNDS = 4  #: every so many looks, check what hints may have missed


class Fleet:
    """One worker's membership.

    Args:
        lost: called when this worker was declared dead, before it signs up again under a new id.
        held_until: called with the moment up to which its runs are certainly nobody else's.
        due: called when runs may have become due.
        check: called about once a second, for whatever a lost hint would leave undone.

    Attributes:
        id: this worker's id in the store, 0 before it has signed up.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        *,
        lost: Callable[[], None],
        held_until: Callable[[float], None],
        due: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._loop = loop
        self._settings = settings
        self._lost = lost
        self._held_until = held_until
        self._due = due
        self._check = check
        self._host = host_identity()
        self._announced = 0  # how many workflows the store knows this worker has code for
        self.id = 0
        self.name = settings.name or f"{os.uname().nodename}-{os.getpid()}"

    async def join(self) -> None:
        """Sign up, and see at once whether somebody has died."""
        await self._register()
        await self._bury_the_dead()

    async def leave(self) -> None:
        """Sign off in good order."""
        try:
            await self._store.retire(self.id, now=self._settings.clock())
        except StoreError as error:
            logger.warning("couldn't sign off; others take over when the lease ends: %s", error)

    async def supervise(self) -> None:
        """Keep the lease and look after the others, for ever."""
        pause = self._settings.lease / 3
        next_beat = self._loop.time() + pause
        rounds = 0
        while True:
            await asyncio.sleep(LOOK_EVERY)
            rounds += 1
            try:
                if self._loop.time() >= next_beat or registered() != self._announced:
                    next_beat = self._loop.time() + pause
                    await self._beat()
                await self._bury_the_dead()
                if rounds % ROUNDS == 0:
                    await self._store.strand(now=self._settings.clock())
                    await end_unbegun(self._store, self._settings.clock)
                    self._check()
            except StoreError as error:
                logger.warning("couldn't look after the fleet, will try again: %s", error)

    async def _register(self) -> None:
        now = self._settings.clock()
        names = workflow_names()
        self.id = await self._store.register(
            WorkerRow(
                id=0,
                name=self.name,
                host=self._host,
                pid=os.getpid(),
                born=born(os.getpid()),
                started_at=now,
                lease_until=now + self._settings.lease,
                queues=self._settings.queues,
                workflows=names,
                version=self._settings.version,
                code=self._settings.code,
            ),
            now=now,
        )
        self._announced = len(names)
        self._held_until(now + self._settings.lease)

    async def _beat(self) -> None:
        now = self._settings.clock()
        if not await self._store.heartbeat(self.id, now + self._settings.lease):
            logger.error("worker %s was declared dead (paused past its lease?): dropping its runs", self.name)
            self._lost()
            await self._register()
            self._due()
            return
        self._held_until(now + self._settings.lease)
        if registered() != self._announced:  # modules with new workflows were imported meanwhile
            self._announced = registered()
            await self._store.announce(self.id, workflow_names(), now=now)
            self._due()

    async def _bury_the_dead(self) -> None:
        now = self._settings.clock()
        for worker in await self._store.workers():
            if worker.id == self.id or (worker.lease_until >= now and not process_gone(worker, self._host)):
                continue
            released = await self._store.bury(
                worker.id, worker.lease_until, now=now, max_recoveries=self._settings.max_recoveries
            )
            if released is not None:
                logger.warning("worker %s is dead; %d runs go on elsewhere", worker.name, released)
                self._due()
