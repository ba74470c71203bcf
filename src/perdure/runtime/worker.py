"""Supervision: which runs this process drives, and whether the other workers still live.

Taking over is the one way a run comes to a worker: it claims what is due and unowned, loads the history,
replays it. Recovery after a crash is the same path: a dead worker's runs become unowned, and due.

claims.py takes over what is due, mailroom.py looks for what comes by mail, hosting.py does what drivers ask for, and
fleet.py looks after the other workers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from time import perf_counter
from typing import Any

from perdure.codec.events import decode_event
from perdure.core.events import RunStarted
from perdure.core.namespaces import prefix_of
from perdure.errors import DamagedHistoryError, UndecodableError
from perdure.runtime import collector, guard
from perdure.runtime.capacity import Capacity
from perdure.runtime.claims import Claims
from perdure.runtime.deadlines import Deadlines
from perdure.runtime.definitions import workflow_named
from perdure.runtime.distributor import Distributor
from perdure.runtime.draining import drain, end, hand_back
from perdure.runtime.driver import Driver
from perdure.runtime.errands import ErrandDefinition, ErrandDriver
from perdure.runtime.family import Family
from perdure.runtime.fleet import DECLARED_DEAD, Fleet
from perdure.runtime.hosting import Hosting
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.journal import Journal
from perdure.runtime.listeners import Listeners
from perdure.runtime.logfields import about_run
from perdure.runtime.machines import new_machine
from perdure.runtime.mailroom import Mailroom, hand_out
from perdure.runtime.moving import refuse_moved
from perdure.runtime.observing import Observer
from perdure.runtime.outbox import Outbox
from perdure.runtime.residency import Residency
from perdure.runtime.results import Results
from perdure.runtime.retaining import Retaining
from perdure.runtime.scheduler import Scheduler
from perdure.runtime.settings import Settings
from perdure.runtime.steps import StepExecutor
from perdure.runtime.takeover import load_donor
from perdure.runtime.timers import Timers
from perdure.runtime.turns import Turns
from perdure.runtime.uptake import feed_history, take_back
from perdure.storage.changes import Change
from perdure.storage.protocol import Store
from perdure.storage.records import History, RunRow

logger = logging.getLogger("perdure.worker")

#: With more runs, it isn't looked at each check whether they are all still this worker's.
OWNED_EACH_CHECK = 2_000

CLAIM_PATIENCE = 2.0  #: seconds that a claim has to end when the worker stops


class Worker(Hosting):
    """Drives runs in this process.

    Args:
        settings: limits and intervals, see Settings.
        results: told about every run that ends here.
        inquiry: asks the runs that are driven here, and is told what became of their updates.
        listeners: told about every run that has something new in its streams.
        observer: told about what is recorded here, if anybody observes.
    """

    _unlooked = 0  # checks since it was looked whether the runs here are still this worker's

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        results: Results,
        inquiry: Inquiry,
        listeners: Listeners,
        observer: Observer | None = None,
    ) -> None:
        self._store, self._loop, self._settings = store, loop, settings
        self._results, self._inquiry, self.entities = results, inquiry, inquiry.entities
        self._listeners, self.observer, self.bounds = listeners, observer, settings.bounds
        self.code, self.clock, self.max_payload = settings.code, settings.clock, settings.max_payload
        self.journal = Journal(store, loop, observer)
        self.timers, self.turns = Timers(loop, self.clock), Turns(settings.turn_limit)
        self._outbox = Outbox(store, loop, self.clock, listeners)
        self.steps = StepExecutor(
            loop,
            self.clock,
            monotonic=settings.monotonic,
            concurrency=settings.concurrency,
            threads=settings.threads,
            processes=settings.processes,
            max_payload=settings.max_payload,
            outbox=self._outbox,
            store=store,
            log=self.journal,
        )
        self.steps.observer = observer if observer is not None and observer.hears("begins") else None
        executing, after, most = self.steps.executing, settings.evict_after, settings.max_resident
        self._residency = Residency(loop, self.clock, executing, evict_after=after, max_resident=most)
        self.drivers = self._residency.drivers
        self._fleet = Fleet(
            store,
            loop,
            settings,
            load=self.load,
            lost=self._drop_all,
            held_until=self.steps.sure_until,
            due=self.poke,
            check=self._check_missed,
        )
        self._claims = Claims(
            store,
            self.clock,
            self.timers,
            self._residency,
            lambda: self.id,
            Capacity(self.steps, settings),
            take=self._resume,
            taken=self.look_soon,
            spread=self._fleet.spread,
        )
        self._claims.observer = observer
        self._family = Family(store, self.clock, self._aside)
        self._deadlines = Deadlines(store.callbacks, self.clock, self._aside, self.look_soon)
        self._mailroom = Mailroom(store, lambda: self.id, self.drivers, self._aside)
        self.scheduler = Scheduler(store, loop, self.clock, self.timers, self.changed)
        self.distributor = Distributor(store, loop, settings, self.timers, self.changed)
        self._retaining = Retaining(store, loop, settings, self.timers)
        self._closing = False
        self._tasks: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[Any]] = set()
        guard.install()

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, take over what dead workers left, and begin to drive runs."""
        await refuse_moved(self._store)
        await self._fleet.join()
        collector.relax()
        await self.distributor.sign_up()
        duties = (self._fleet.supervise(), self._claims.run(), self.scheduler.run(), self.distributor.run())
        self._tasks = [self._loop.create_task(duty) for duty in duties]
        self._retaining.start(self._fleet.name, self.id)
        self.poke()

    async def close(self, grace: float) -> None:
        """Stop in good order: executing steps may finish, every run is handed back, none is lost.

        Args:
            grace: seconds that executing steps have to finish.
        """
        self._closing = True
        self._mailroom.close()
        try:
            await self._hand_back(grace)
        finally:  # even if that is interrupted: code that isn't let go of unwinds later, with real effects
            await end(*self._tasks)
            await self._retaining.close()
            for driver in list(self.drivers.values()):
                driver.lose("the engine was closed")

    async def _hand_back(self, grace: float) -> None:
        self._fleet.stop()
        self._claims.stop()
        await self._retaining.close()
        supervising, claiming, scheduling, distributing = self._tasks
        # what it is taking right now would stay with a worker that drives nothing any more
        await asyncio.wait([claiming], timeout=CLAIM_PATIENCE)
        await end(claiming, scheduling, distributing)
        await drain(self.steps, self.drivers, self.clock, grace)
        await self.steps.close()
        await self._outbox.close()
        await self.journal.drain()
        self._residency.close()
        now = self.clock()
        for driver in list(self.drivers.values()):
            hand_back(driver, now)
        await self.journal.drain()
        if self._background:  # a child is being cancelled, say
            await asyncio.wait(list(self._background), timeout=1.0)
        for task in list(self._background):
            task.cancel()
        self.journal.close()
        self.timers.close()
        self.turns.close()
        collector.restore()
        await end(supervising)
        await self._fleet.leave()

    @property
    def id(self) -> int:
        """This worker's id in the store."""
        return self._fleet.id

    @property
    def name(self) -> str:
        """What listings call it."""
        return self._fleet.name

    @property
    def member(self) -> Fleet:
        """This worker among the others."""
        return self._fleet

    def load(self) -> tuple[int, int]:
        """How many runs are in memory here, and how many attempts of steps execute."""
        return len(self.drivers), len(self.steps.executing)

    # -- runs come in -------------------------------------------------------------------------------

    def takes(self, workflow: str, queue: str) -> bool:
        """Whether a new run can be driven here from the start."""
        return (
            not self._closing
            and self.id != 0
            and queue in self._settings.queues
            and self._residency.room() > 0
            and not self._claims.alone
            and workflow_named(workflow) is not None
        )

    def adopt(self, row: RunRow, first_event: bytes) -> None:
        """Drive a run that was just created with this worker as its owner."""
        if not self._closing:
            self._loop.call_soon(self._first_turn, row, first_event)

    def _first_turn(self, row: RunRow, first_event: bytes) -> None:
        if row.owner != self.id:
            return  # this worker was declared dead since: the run is somebody else's
        driver = self._driver(row)
        self.drivers[row.run] = driver
        started = decode_event(first_event)
        assert isinstance(started, RunStarted)
        if self.observer is not None:
            self.observer.born(driver, started)
        driver.begin(started)
        driver.work.watch_deadline()
        driver.proceed()
        if row.mail:
            self.look_soon()

    def poke(self) -> None:
        """Something may be due: claim."""
        self._claims.poke()

    def freed(self) -> None:
        """A run has ended, and may have left its slot to others."""
        self._claims.freed()

    async def _resume(self, row: RunRow, history: History, emitting: Sequence[str]) -> None:
        """Bring a run back into memory by replaying its history."""
        driver = self._driver(row)
        try:
            await self._replay(driver, row, history, emitting)
        except (DamagedHistoryError, UndecodableError) as error:
            driver.block(error)
        except Exception as error:  # the engine's own: the other runs mustn't suffer from it
            logger.critical("run %s made the engine fail", row.id, exc_info=True, extra=about_run(driver))
            driver.block(error)
        except BaseException:  # the engine closes amid the replay: as in close()
            driver.lose("its replay was interrupted")
            raise

    async def _replay(self, driver: Driver, row: RunRow, history: History, emitting: Sequence[str]) -> None:
        begun = 0.0 if self.observer is None else perf_counter()
        driver.size = sum(map(len, history.events))
        await feed_history(driver, history)
        if self.observer is not None:
            self.observer.replayed(driver, len(history.events), perf_counter() - begun)
        if driver.gone:
            return
        started = driver.machine.started
        if started is not None and started.donor is not None and not driver.machine.ended:
            donor = await load_donor(self._store, started, history, prefix_of(row.id))
            if donor is not None:
                driver.go_on_from(donor)
            if driver.gone:
                return
        if emitting:
            if not await take_back(self._store, driver, emitting):
                driver.lose("somebody else drives it")
                return
            self._listeners.changed(driver.known_as)
        if row.owner != self.id:  # else it would be driven on, as this worker's new lease covers it
            driver.lose(DECLARED_DEAD)
            return
        self.drivers[row.run] = driver
        if self.observer is not None:
            self.observer.recalled(driver, history.events, recovered=bool(row.recoveries))
        driver.work.watch_deadline()
        if history.details:
            driver.work.remember(history.details)
        if row.recoveries:
            driver.recovered(self._fleet.name, self._settings.version)
        driver.check_children()
        driver.check_errands()
        if history.mail:
            hand_out(driver, history.mail)
        if driver.busy():  # what came first goes first: the mail may be a cancellation
            driver.flush()
        else:
            driver.proceed()

    def _driver(self, row: RunRow) -> Driver:
        definition = workflow_named(row.workflow)
        assert definition is not None, "a run is claimed only by a worker with its code"

        kind = ErrandDriver if isinstance(definition, ErrandDefinition) else Driver
        driver = kind(self, row, definition, new_machine(row.id, definition, self.max_payload))
        driver.last_active = self.clock()
        return driver

    # -- mail ---------------------------------------------------------------------------------------

    def changed(self, change: Change = Change.ANYTHING) -> None:
        """Somebody else has committed something."""
        self.scheduler.hint()
        if change is Change.ENDS:
            self.freed()
            return
        self.poke()
        self.look_soon()
        self._inquiry.look_soon()
        self.distributor.hint()

    def look_soon(self) -> None:
        """Something may have come by mail for runs driven here."""
        self._mailroom.look_soon()

    def check_ownership_soon(self) -> None:
        """A run that is driven here may have been ended from outside."""
        self._aside(self._check_ownership())

    # -- what went unnoticed --------------------------------------------------------------------------

    def _drop_all(self) -> int:
        dropped = list(self.drivers.values())
        for driver in dropped:
            driver.lose(DECLARED_DEAD)
        return len(dropped)

    def _check_missed(self) -> None:
        """Hints may get lost; losing one must cost no more than a second."""
        self._results.check_soon()
        self._inquiry.check_soon()
        self.changed()
        self._unlooked += 1
        if 0 < len(self.drivers) <= self._unlooked * OWNED_EACH_CHECK:
            self._unlooked = 0
            self.check_ownership_soon()

    async def _check_ownership(self) -> None:
        """Notice runs that were taken away (terminated from outside) before their next append does."""
        quiet = [driver for driver in self.drivers.values() if not driver.busy()]
        owned = dict(await self._store.owned(self.id))
        for driver in quiet:
            if owned.get(driver.run) != driver.epoch and self.drivers.get(driver.run) is driver:
                driver.lose("it was ended or taken over from outside")

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
