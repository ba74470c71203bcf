"""This worker among the others: signing up, staying alive in their eyes, and noticing who isn't.

A worker has one row in the store, with a lease that it extends by a heartbeat. Whoever sees that another
one is dead (its process is gone from this host, or its lease has run out) removes the row, which makes its
runs due for everybody, in their next epoch. Leases decide only when a take-over happens: that a worker
wrongly held for dead can do no harm is up to the epochs in every append.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator

from perdure.errors import StoreError
from perdure.runtime.definitions import drivable, registered
from perdure.runtime.errands import offer_missed
from perdure.runtime.liveness import worker_name
from perdure.runtime.pace import SMALL, Pace
from perdure.runtime.settings import Settings
from perdure.runtime.unbegun import end_unbegun
from perdure.storage.chance import chance
from perdure.storage.protocol import Store
from perdure.storage.workers import Heartbeat, WorkerRow

logger = logging.getLogger("perdure.fleet")

LOOK_EVERY = 0.25  #: seconds between looks at the other workers
ROUNDS = 4  #: every so many looks, check what hints may have missed
#: How often a second all workers of a large fleet together look for the dead, for runs that nobody can drive, and for
#: what hints may have missed.
LOOKS, ROUNDS_TOGETHER, CHECKS = 1000.0, 500.0, 2000.0
COUNT_EVERY, COUNTS = 20, 20.0  #: the same of looks at how many workers there are
CLAIMS = 2000.0  #: and how often they claim when a run that they all know of is due
DECLARED_DEAD = "this worker was declared dead"  #: why its runs are dropped then
LENIENCE_MIN = 2.0  #: seconds that others have at least to be heard of, after nobody could


class Fleet:
    """One worker's membership.

    Args:
        load: tells how many runs are in memory, and how many steps execute.
        lost: called when this worker was declared dead, before it signs up again under a new id; tells how many runs
            it has dropped.
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
        load: Callable[[], tuple[int, int]],
        lost: Callable[[], int],
        held_until: Callable[[float], None],
        due: Callable[[], None],
        check: Callable[[], None],
    ) -> None:
        self._store = store
        self._loop = loop
        self._settings = settings
        self._load = load
        self._lost = lost
        self._held_until = held_until
        self._due = due
        self._check = check
        self._whereabouts = settings.whereabouts
        self._host = self._whereabouts.host()
        self._announced = 0  # how many workflows the store knows this worker has code for
        self._heard_at = 0.0  # when the store last took a sign of life, wall clock
        self._lenient_until = (
            0.0  # by the event loop's time: a clock that swings mustn't make it last for ever
        )
        self._looks = Pace(LOOK_EVERY, 1, LOOKS)
        self._rounds = Pace(LOOK_EVERY, ROUNDS, ROUNDS_TOGETHER)
        self._checks = Pace(LOOK_EVERY, ROUNDS, CHECKS)
        self._counts = Pace(LOOK_EVERY, COUNT_EVERY, COUNTS)
        self._neighbours: list[WorkerRow] = []
        self._beating_since: float | None = None  # by the event loop's time: a beat is on its way
        self._stopping = False
        self._said_so = False
        self.id = 0
        self.name = worker_name(settings.name)

    async def join(self) -> None:
        """Sign up, and see at once whether somebody has died."""
        await self._register()
        await self._count()
        await self._bury_the_dead()

    async def leave(self) -> None:
        """Sign off in good order."""
        try:
            await self._store.retire(self.id, now=self._settings.clock())
        except StoreError as error:
            logger.warning("couldn't sign off; others take over when the lease ends: %s", error)

    def stop(self) -> None:
        """From now on only keep the lease, and say that this worker stops: what executes may take a while."""
        self._stopping = True

    async def supervise(self) -> None:
        """Keep the lease and look after the others, for ever.

        Apart from each other: looking after the others may have to wait for somebody's lock, and the lease can't wait.
        """
        await asyncio.gather(self._keep_lease(), self._look_after_others())

    async def _keep_lease(self) -> None:
        pause = self._settings.lease / 3
        next_beat = self._loop.time() + pause
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with _persistence("keep the lease"):
                # one that took long (a server that was away) has prolonged the lease by less: then once more, at once
                while self._loop.time() >= next_beat or self._news():
                    self._beating_since = self._loop.time()
                    next_beat = self._beating_since + pause
                    try:
                        await self._beat()
                    finally:
                        self._beating_since = None

    async def _look_after_others(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not self._stopping:
                with _persistence("look after the fleet"):
                    await self._look()

    def _news(self) -> bool:
        """Whether there is something that the store doesn't know of this worker."""
        return registered() != self._announced or self._stopping != self._said_so

    async def _look(self) -> None:
        if self._counts.due():
            await self._count()
        if self._looks.due() or any(
            self._whereabouts.gone(worker, self._host) for worker in self._neighbours
        ):
            await self._bury_the_dead()
        if self._rounds.due():
            await offer_missed(self._store, self._settings.queues)
            await self._store.strand(now=self._settings.clock())
            await end_unbegun(self._store, self._settings.clock)
        if self._checks.due():
            self._check()

    def unfit(self) -> str | None:
        """Why this worker can't be counted on, if so."""
        if self._stopping:
            return "it is stopping"
        if self.id == 0:
            return "the worker isn't signed up"
        if self._settings.clock() > self._heard_at + self._settings.lease:
            return "the worker couldn't renew its lease"
        return None

    def waiting(self) -> float:
        """How long its sign of life has been on its way to the store, in seconds."""
        return 0.0 if self._beating_since is None else self._loop.time() - self._beating_since

    def spread(self) -> float:
        """The seconds over which the workers spread what they all know the moment of."""
        workers = self._looks.workers
        return 0.0 if workers <= SMALL else workers / CLAIMS * chance.random()

    async def _count(self) -> None:
        """The more workers, the more rarely each of them looks."""
        workers = await self._store.crowd()
        for pace in (self._looks, self._rounds, self._checks, self._counts):
            pace.workers = workers

    async def _register(self) -> None:
        now = self._settings.clock()
        names = drivable(self._settings.queues)
        pid, start = self._whereabouts.process()
        self.id = await self._store.register(
            WorkerRow(
                id=0,
                name=self.name,
                host=self._host,
                pid=pid,
                born=start,
                started_at=now,
                lease_until=now + self._settings.lease,
                queues=self._settings.queues,
                workflows=names,
                version=self._settings.version,
                code=self._settings.code,
                heard_at=now,
            ),
            now=now,
        )
        self._heard_at = now
        self._announced = registered()
        self._held_until(now + self._settings.lease)

    async def _beat(self) -> None:
        now, lease = self._settings.clock(), self._settings.lease
        runs, steps = self._load()
        stopping = self._stopping
        if not await self._store.heartbeat(self.id, Heartbeat(now + lease, now, runs, steps, stopping)):
            await self._return_from_the_dead()
            return
        self._said_so = stopping
        self._held_until(now + lease)
        self._heard_again(self._settings.clock())
        if registered() != self._announced:  # modules with new workflows were imported meanwhile
            self._announced = registered()
            await self._store.announce(self.id, drivable(self._settings.queues), now=now)
            self._due()

    async def _return_from_the_dead(self) -> None:
        """Others have taken this worker's runs over: let go of them, and begin anew."""
        self.id = 0  # what it is about to take over isn't its own any more, either
        dropped = self._lost()
        logger.error(
            "worker %s was declared dead: nothing was heard of it for its lease of %g s (was it paused, or cut off "
            "from the database?). Its %d runs are no longer driven here; what they still bring is refused",
            self.name,
            self._settings.lease,
            dropped,
            extra={"worker": self.name},
        )
        self._said_so = self._stopping
        if self._stopping:
            return
        await self._register()
        self._due()

    def _heard_again(self, now: float) -> None:
        """After a silence: whatever kept this worker from the store may have kept others from it, too.

        They get as long as there is between two heartbeats before they are taken for dead.
        """
        if self._silent(now):
            self._lenient_until = self._loop.time() + max(self._settings.lease / 3, LENIENCE_MIN)
        self._heard_at = now

    def _silent(self, now: float) -> bool:
        """Whether the store hasn't heard of this worker for longer than it should: two heartbeats are missing."""
        return now - self._heard_at > self._settings.lease * 2 / 3 + 2 * LOOK_EVERY

    async def _bury_the_dead(self) -> None:
        now = self._settings.clock()
        suspects = await self._store.suspects(self._host, lapsed_before=now)
        self._neighbours = [worker for worker in suspects if worker.host == self._host]
        sure = self._loop.time() >= self._lenient_until and not self._silent(self._settings.clock())
        for worker in suspects:
            lapsed = worker.lease_until < now and sure
            if worker.id == self.id or not (lapsed or self._whereabouts.gone(worker, self._host)):
                continue
            released = await self._store.bury(
                worker.id, worker.lease_until, now=now, max_recoveries=self._settings.max_recoveries
            )
            if released is not None:
                about = {"worker": worker.name}
                logger.warning(
                    "worker %s is dead; %d runs go on elsewhere", worker.name, released, extra=about
                )
                self._due()


@contextlib.contextmanager
def _persistence(what: str) -> Generator[None, None, None]:
    """An error is logged, and the next round comes: without these tasks others would take this worker for dead."""
    try:
        yield
    except StoreError as error:
        logger.warning("couldn't %s, will try again: %s", what, error)
    except Exception:  # the engine's own
        logger.critical("couldn't %s, will try again", what, exc_info=True)
