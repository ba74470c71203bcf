"""What a worker does for its drivers: it makes their children, carries their messages, hears how they end.

Host is what a driver sees of this.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from perdure.core import events as ev
from perdure.core.commands import AwaitCallback, Operation, RunStep, SendMessage, StartChild
from perdure.core.status import Status
from perdure.runtime.deadlines import Deadlines
from perdure.runtime.distributor import Distributor
from perdure.runtime.driver import Driver
from perdure.runtime.family import Family, row_of
from perdure.runtime.fleet import DECLARED_DEAD
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.listeners import Listeners
from perdure.runtime.logfields import about_run
from perdure.runtime.observing import Observer
from perdure.runtime.residency import Residency
from perdure.runtime.results import Results
from perdure.runtime.scheduler import Scheduler
from perdure.storage.effects import SetUpdate
from perdure.storage.records import NewRun, RunRow

logger = logging.getLogger("perdure.worker")


class Hosting:
    """The part of a worker that its drivers ask, and tell."""

    drivers: dict[int, Driver]
    scheduler: Scheduler
    distributor: Distributor
    observer: Observer | None
    _loop: asyncio.AbstractEventLoop
    _residency: Residency
    _family: Family
    _deadlines: Deadlines
    _listeners: Listeners
    _results: Results
    _inquiry: Inquiry
    _closing: bool

    if TYPE_CHECKING:

        @property
        def id(self) -> int: ...
        def takes(self, workflow: str, queue: str) -> bool: ...
        def adopt(self, row: RunRow, first_event: bytes) -> None: ...
        def poke(self) -> None: ...
        def changed(self) -> None: ...
        def look_soon(self) -> None: ...
        def freed(self) -> None: ...

    def call_from_thread(self, call: Callable[..., None], *args: Any) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    def watch(self, driver: Driver, operation: Operation) -> None:
        self._residency.watch(driver, operation)

    def child_run(self, driver: Driver, operation: StartChild) -> NewRun:
        return self._family.make(driver, operation, self.owner_of)

    def owner_of(self, workflow: str, queue: str) -> int | None:
        """Who is to drive a new run from the start: this worker, or whoever claims it."""
        return self.id if self.takes(workflow, queue) else None

    def child_created(self, child: NewRun, run: int, epoch: int) -> None:
        if epoch and child.owner == self.id:
            self.adopt(row_of(child, run, epoch), child.first_event)
        else:
            self.poke()

    def continued(self, following: NewRun, run: int, epoch: int) -> None:
        """A run that was driven here goes on in its next generation."""
        self.child_created(following, run, epoch)
        self._loop.call_soon(self.look_soon)  # its mail has gone over

    def check_children(self, driver: Driver, children: Sequence[StartChild]) -> None:
        self._family.check(driver, children)

    def check_errands(self, driver: Driver, steps: Sequence[RunStep]) -> None:
        self._family.check_errands(driver, steps)

    def callback_due(self, driver: Driver, operation: AwaitCallback) -> None:
        self._deadlines.look(driver, operation)

    def send_message(self, driver: Driver, operation: SendMessage) -> None:
        self._family.send(driver, operation)

    def distribute(self) -> None:
        """Something was published, or a run waits for it."""
        self.distributor.poke()

    def cancel_run(self, driver: Driver, operation: StartChild, reason: str) -> None:
        self._family.cancel(driver, operation, reason, self.changed)

    def streams_grew(self, driver: Driver) -> None:
        self._listeners.changed(driver.id)

    def ended(self, driver: Driver, status: Status, event: ev.Final) -> None:
        self._forget(driver)
        self.freed()
        if status is not Status.CONTINUED:
            self._results.ended(driver.id, status, event)
        self._inquiry.check_soon()
        self.scheduler.hint()  # a slot may wait for this
        self._listeners.changed(driver.id)
        if driver.parent_op is not None or driver.has_children:
            self.changed()

    def answered(self, driver: Driver, answers: Sequence[SetUpdate]) -> None:
        self._inquiry.updates.answered(driver.id, answers)

    def handed_back(self, driver: Driver) -> None:
        self._forget(driver)
        self.poke()  # mail may have come while it left; else the claim tells when it is due

    def lost(self, driver: Driver, why: str) -> None:
        if not self._closing and why != DECLARED_DEAD:  # of which there is one line for all
            logger.warning("run %s is no longer driven here: %s", driver.id, why, extra=about_run(driver))
        self._forget(driver)
        self.poke()

    def blocked(self, driver: Driver, reason: str) -> None:
        logger.error("run %s is blocked: %s", driver.id, reason, extra=about_run(driver))

    def _forget(self, driver: Driver) -> None:
        if self.drivers.get(driver.run) is driver:
            del self.drivers[driver.run]
            if self.observer is not None:
                self.observer.let_go(driver)
