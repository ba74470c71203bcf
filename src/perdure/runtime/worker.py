"""Supervision: which runs this process drives, and whether the other workers still live.

Taking over is the one way a run comes to a worker: it claims what is due and unowned, loads the history,
replays it. Recovery after a crash is the same path: a dead worker's runs become unowned, and due.

Three loops: `_claims` (whenever something may be due), `_look` (whenever something may have come by mail),
and `_supervise` (leases, dead workers, runs that nobody has code for).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.codec.events import decode_event, encode_event
from perdure.codec.failures import failure_of, step_exception
from perdure.core import events as ev
from perdure.core.commands import Operation, StartChild
from perdure.core.machine import Machine
from perdure.core.status import Status
from perdure.errors import RunConflictError, StoreError, UndecodableError
from perdure.runtime import guard
from perdure.runtime.definitions import registered, workflow_named, workflow_names
from perdure.runtime.driver import Driver
from perdure.runtime.journal import Journal
from perdure.runtime.liveness import born, host_identity, process_gone
from perdure.runtime.outcomes import child_error
from perdure.runtime.residency import Residency
from perdure.runtime.results import Results
from perdure.runtime.runs import new_run
from perdure.runtime.settings import Settings
from perdure.runtime.steps import StepExecutor
from perdure.runtime.timers import Alarm, Timers
from perdure.runtime.turns import Turns
from perdure.storage.protocol import Store
from perdure.storage.records import History, NewRun, RunRow, WorkerRow

logger = logging.getLogger("perdure.worker")

CLAIM_MAX = 256  #: runs claimed at a time, so that a backlog doesn't keep the loop from its other work
REPLAY_SLICE = 500  #: events replayed before other runs get their turn
SUPERVISE_EVERY = 0.25  #: seconds between looks at the other workers


class Worker:
    """Drives runs in this process.

    Args:
        settings: limits and intervals, see Settings.
        results: told about every run that ends here.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        results: Results,
    ) -> None:
        self._store = store
        self._loop = loop
        self._settings = settings
        self._results = results
        self.clock = settings.clock
        self.max_payload = settings.max_payload
        self.journal = Journal(store, loop)
        self.timers = Timers(loop, self.clock)
        self.turns = Turns(settings.turn_limit)
        self.steps = StepExecutor(
            loop,
            self.clock,
            concurrency=settings.concurrency,
            threads=settings.threads,
            max_payload=settings.max_payload,
        )
        self._residency = Residency(
            loop, self.clock, evict_after=settings.evict_after, max_resident=settings.max_resident
        )
        self.drivers = self._residency.drivers
        self.id = 0
        self.name = settings.name or f"{os.uname().nodename}-{os.getpid()}"
        self._host = host_identity()
        self._registered = 0  # how many workflows the store knows this worker has code for
        self._closing = False
        self._poked = asyncio.Event()
        self._next_claim: Alarm | None = None
        self._looking = False
        self._look_again = False
        self._tasks: list[asyncio.Task[None]] = []
        self._errands: set[asyncio.Task[Any]] = set()
        guard.install()

    # -- life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Register, take over what dead workers left, and begin to drive runs."""
        await self._register()
        await self._bury_the_dead()
        self._tasks = [self._loop.create_task(self._claims()), self._loop.create_task(self._supervise())]
        self.poke()

    async def close(self, grace: float) -> None:
        """Stop in good order: executing steps may finish, every run is handed back, none is lost.

        Args:
            grace: seconds that executing steps have to finish.
        """
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.steps.close(grace)
        await self.journal.drain()
        self._residency.close()
        now = self.clock()
        for driver in list(self.drivers.values()):
            driver.release(now if driver.work.executing else driver.work.next_due())
        if self.journal.trouble is None:
            await self.journal.drain()
        for errand in list(self._errands):
            errand.cancel()
        self.journal.close()
        self.timers.close()
        self.turns.close()
        try:
            await self._store.retire(self.id, now=self.clock())
        except StoreError as error:
            logger.warning("couldn't sign off; others take over when the lease ends: %s", error)

    async def _register(self) -> None:
        now = self.clock()
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
            ),
            now=now,
        )
        self._registered = len(names)

    # -- runs come in -------------------------------------------------------------------------------

    def takes(self, workflow: str, queue: str) -> bool:
        """Whether a new run can be driven here from the start."""
        return (
            not self._closing
            and self.id != 0
            and queue in self._settings.queues
            and self._residency.room() > 0
            and workflow_named(workflow) is not None
        )

    def adopt(self, row: RunRow, first_event: bytes) -> None:
        """Drive a run that was just created with this worker as its owner."""
        self._loop.call_soon(self._first_turn, row, first_event)

    def _first_turn(self, row: RunRow, first_event: bytes) -> None:
        driver = self._driver(row)
        self.drivers[row.run] = driver
        driver.replay(decode_event(first_event))
        driver.proceed()

    def poke(self) -> None:
        """Something may be due: claim."""
        self._poked.set()

    async def _claims(self) -> None:
        while True:
            await self._poked.wait()
            self._poked.clear()
            try:
                await self._claim()
            except StoreError as error:
                logger.warning("couldn't claim runs, will try again: %s", error)
                self.timers.at(self.clock() + 0.5, self.poke)

    async def _claim(self) -> None:
        if self._residency.room() < CLAIM_MAX // 4:
            self._residency.make_room()
        limit = min(CLAIM_MAX, self._residency.room())
        if limit == 0:
            self.timers.at(self.clock() + 0.05, self.poke)
            return
        claimed = await self._store.claim(
            self.id,
            workflows=workflow_names(),
            queues=self._settings.queues,
            now=self.clock(),
            limit=limit,
        )
        if claimed.rows:
            histories = await self._store.load([row.run for row in claimed.rows])
            for row, history in zip(claimed.rows, histories, strict=True):
                await self._resume(row, history)
            self.look_soon()
        if len(claimed.rows) == limit:
            self.poke()
        elif claimed.next_at is not None:
            self.claim_at(claimed.next_at)

    def claim_at(self, due: float) -> None:
        """Claim again at `due`, or earlier if that is planned already."""
        if self._next_claim is None or self._next_claim.action is None or due < self._next_claim.due:
            if self._next_claim is not None:
                self._next_claim.cancel()
            self._next_claim = self.timers.at(due, self._claim_now)

    def _claim_now(self) -> None:
        self._next_claim = None
        self.poke()

    async def _resume(self, row: RunRow, history: History) -> None:
        """Bring a run back into memory by replaying its history."""
        driver = self._driver(row)
        machine = driver.machine
        machine.replaying = True
        for number, data in enumerate(history.events, 1):
            try:
                driver.replay(decode_event(data))
            except UndecodableError as error:
                driver.block(error)
            if driver.gone:
                return
            if number % REPLAY_SLICE == 0:
                await asyncio.sleep(0)
        machine.replaying = False
        self.drivers[row.run] = driver
        if row.recoveries:
            driver.recovered(self.name)
        driver.check_children()
        if history.mail:
            driver.take_mail((item.id, decode_event(item.data)) for item in history.mail)
        else:
            driver.proceed()

    def _driver(self, row: RunRow) -> Driver:
        definition = workflow_named(row.workflow)
        assert definition is not None, "a run is claimed only by a worker with its code"

        def main(started: ev.RunStarted) -> Coroutine[Any, Any, Any]:
            args, kwargs = definition.arguments.decode(started.input)
            return definition.function(*args, **kwargs)  # type: ignore[no-any-return]

        machine = Machine(row.id, row.workflow, main, step_exception, child_error, self.max_payload)
        driver = Driver(self, row, definition, machine)
        driver.last_active = self.clock()
        return driver

    # -- mail ---------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Somebody else has committed something."""
        self.poke()
        self.look_soon()

    def look_soon(self) -> None:
        """Something may have come by mail for runs driven here."""
        if self._looking:
            self._look_again = True
        elif not self._closing:
            self._looking = True
            self._errand(self._look())

    async def _look(self) -> None:
        try:
            while True:
                self._look_again = False
                by_run: dict[int, list[tuple[int, ev.Event]]] = {}
                for item in await self._store.mail(self.id):
                    by_run.setdefault(item.run, []).append((item.id, decode_event(item.data)))
                for run, items in by_run.items():
                    if (driver := self.drivers.get(run)) is not None:
                        driver.take_mail(items)
                if not self._look_again:
                    return
        except StoreError as error:
            logger.warning("couldn't read the mail, will try again: %s", error)
            self.timers.at(self.clock() + 0.5, self.look_soon)
        finally:
            self._looking = False

    # -- the other workers --------------------------------------------------------------------------

    async def _supervise(self) -> None:
        lease = self._settings.lease
        next_beat = self._loop.time() + lease / 3
        rounds = 0
        while True:
            await asyncio.sleep(SUPERVISE_EVERY)
            rounds += 1
            try:
                if self._loop.time() >= next_beat or registered() != self._registered:
                    next_beat = self._loop.time() + lease / 3
                    await self._beat()
                await self._bury_the_dead()
                if rounds % 4 == 0:
                    await self._store.strand(now=self.clock())
                    await self._check_ownership()
                    self._results.check_soon()
                    self.look_soon()
                    self.poke()
            except StoreError as error:
                logger.warning("couldn't look after the fleet, will try again: %s", error)

    async def _beat(self) -> None:
        alive = await self._store.heartbeat(self.id, self.clock() + self._settings.lease)
        if alive and registered() == self._registered:
            return
        if not alive:
            logger.error("worker %s was declared dead (paused past its lease?): dropping its runs", self.name)
            for driver in list(self.drivers.values()):
                driver.lose("this worker was declared dead")
            await self._register()
        else:  # modules with new workflows were imported meanwhile
            self._registered = registered()
            await self._store.announce(self.id, workflow_names(), now=self.clock())
        self.poke()

    async def _bury_the_dead(self) -> None:
        now = self.clock()
        for worker in await self._store.workers():
            if worker.id == self.id or (worker.lease_until >= now and not process_gone(worker, self._host)):
                continue
            released = await self._store.bury(
                worker.id, worker.lease_until, now=now, max_recoveries=self._settings.max_recoveries
            )
            if released is not None:
                logger.warning("worker %s is dead; %d runs go on elsewhere", worker.name, released)
                self.poke()

    async def _check_ownership(self) -> None:
        """Notice runs that were taken away (terminated from outside) before their next append does."""
        if not self.drivers:
            return
        owned = dict(await self._store.owned(self.id))
        for run, driver in list(self.drivers.items()):
            if owned.get(run) != driver.epoch and not driver.busy() and driver.last_active < self.clock() - 1.0:
                driver.lose("it was ended or taken over from outside")

    # -- what drivers ask of their host --------------------------------------------------------------

    def watch(self, driver: Driver, operation: Operation) -> None:
        self._residency.watch(driver, operation)

    def child_run(self, driver: Driver, operation: StartChild) -> NewRun:
        queue = operation.call.queue or driver.queue
        return new_run(
            id=operation.run_id,
            workflow=operation.workflow,
            input=operation.input,
            queue=queue,
            now=self.clock(),
            owner=self.id if self.takes(operation.workflow, queue) else None,
            parent_id=driver.id,
            parent=driver.run,
            parent_op=operation.id,
            on_parent_close=operation.on_parent_close,
        )

    def child_created(self, child: NewRun, run: int, epoch: int) -> None:
        if epoch and child.owner == self.id:
            self.adopt(_row_of(child, run, epoch), child.first_event)
        else:
            self.poke()

    def check_children(self, driver: Driver, children: Sequence[StartChild]) -> None:
        self._errand(self._check_children(driver, children))

    async def _check_children(self, driver: Driver, children: Sequence[StartChild]) -> None:
        """Fail children whose run id turned out to belong to somebody else's run."""
        try:
            rows = await self._store.get([child.run_id for child in children])
        except StoreError as error:
            logger.warning("couldn't check the children of run %s, will try again: %s", driver.id, error)
            self.timers.at(self.clock() + 0.5, self.check_children, driver, children)
            return
        for child, row in zip(children, rows, strict=True):
            if row is None or (row.parent, row.parent_op) != (driver.run, child.id):
                error = RunConflictError(
                    f"child run {child.run_id!r} of run {driver.id!r} couldn't be started: the id belongs to "
                    "another run. Leave the id out, or choose one that is free"
                )
                failed = ev.ChildEnded(
                    at=self.clock(), child=child.id, status=Status.FAILED, failure=failure_of(error)
                )
                driver.record(failed)

    def cancel_run(self, id: str, reason: str) -> None:
        self._errand(self._send_cancel(id, reason))

    async def _send_cancel(self, id: str, reason: str) -> None:
        event = encode_event(ev.CancelRequested(at=self.clock(), reason=reason))
        while True:
            try:
                await self._store.send(id, event, now=self.clock())
                break
            except StoreError as error:
                logger.warning("couldn't cancel run %s, will try again: %s", id, error)
                await asyncio.sleep(0.5)
        self.changed()

    def ended(self, driver: Driver, status: Status, event: ev.Final) -> None:
        self._forget(driver)
        self._results.ended(driver.id, status, event)
        if driver.parent_op is not None or driver.has_children:
            self.changed()

    def handed_back(self, driver: Driver) -> None:
        self._forget(driver)
        self.poke()  # mail may have come while it left; else the claim tells when it is due

    def lost(self, driver: Driver, why: str) -> None:
        if not self._closing:
            logger.warning("run %s is no longer driven here: %s", driver.id, why)
        self._forget(driver)
        self.poke()

    def blocked(self, driver: Driver, reason: str) -> None:
        logger.error("run %s is blocked: %s", driver.id, reason)

    def _forget(self, driver: Driver) -> None:
        if self.drivers.get(driver.run) is driver:
            del self.drivers[driver.run]

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _row_of(run: NewRun, key: int, epoch: int) -> RunRow:
    """The row that creating `run` with an owner has made."""
    return RunRow(
        run=key,
        id=run.id,
        workflow=run.workflow,
        status=Status.RUNNING,
        queue=run.queue,
        fingerprint=run.fingerprint,
        seq=1,
        epoch=epoch,
        owner=run.owner,
        created_at=run.created_at,
        updated_at=run.created_at,
        started_at=run.created_at,
        ended_at=None,
        wake_at=None,
        mail=0,
        recoveries=0,
        semantics=ev.SEMANTICS_VERSION,
        reason=None,
        block_code=None,
        parent=run.parent,
        parent_id=None,
        parent_op=run.parent_op,
        on_parent_close=run.on_parent_close,
    )
