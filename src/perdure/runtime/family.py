"""What runs have to do with one another: children are made, cancelled and checked; messages are sent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.codec.events import encode_event
from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.bounds import INBOX_MAX
from perdure.core.commands import RunStep, SendMessage, StartChild
from perdure.core.finding import fingerprint
from perdure.core.namespaces import prefix_of, short
from perdure.core.status import Status
from perdure.errors import RunConflictError, StoreError
from perdure.runtime import elsewhere
from perdure.runtime.definitions import RECORD_INPUTS_MAX
from perdure.runtime.driver import Driver
from perdure.runtime.runs import Asker, Place, new_run
from perdure.runtime.takeover import origin_for, with_donor
from perdure.runtime.withholding import message_reaches
from perdure.storage.chain import first_link
from perdure.storage.effects import DeliverMessage
from perdure.storage.protocol import Store
from perdure.storage.records import NewRun, RunRow
from perdure.storage.scoping.records import run_within

logger = logging.getLogger("perdure.family")

RETRY_EVERY = 0.5  #: seconds between attempts at what the store refused


class Family:
    """What a worker does for the parents it drives.

    Args:
        aside: runs a coroutine in the background until the worker closes.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float], aside: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._aside = aside

    def make(self, parent: Driver, operation: StartChild, owner: Callable[[str, str], int | None]) -> NewRun:
        """The child run that a parent's code asked for.

        Args:
            owner: who is to drive a new run of this workflow in this queue, None = whoever claims it.
        """
        queue = operation.call.queue or parent.queue
        observer, started = parent.host.observer, parent.machine.started
        new = new_run(
            id=operation.run_id,
            workflow=operation.workflow,
            input=operation.input,
            queue=queue,
            now=self._clock(),
            owner=owner(operation.workflow, queue),
            asker=Asker(short(parent.id), parent.run, operation.id, operation.on_parent_close),
            place=Place(operation.call.key, operation.call.priority),
            trace=None if observer is None or started is None else observer.carried((parent.id, started)),
        )
        if started is not None and started.donor is not None:
            origin = None if parent.donor is None else origin_for(parent.donor, operation)
            new = with_donor(new, started, origin, self._clock())
        return run_within(new, prefix_of(parent.id))

    def check(self, parent: Driver, children: Sequence[StartChild]) -> None:
        """Fail children whose run id turned out to belong to somebody else's run."""
        self._aside(self._check(parent, children))

    async def _check(self, parent: Driver, children: Sequence[StartChild]) -> None:
        within = prefix_of(parent.id)
        rows = await self._persistently(
            lambda: self._store.get([within + child.run_id for child in children])
        )
        for child, row in zip(children, rows, strict=True):
            if row is None:
                error = RunConflictError(
                    f"child run {child.run_id!r} of run {parent.id!r} couldn't be started: {child.workflow} is a "
                    "singleton, and another run of it is live. Wait for that one, or leave singleton= out"
                )
                failure = failure_of(error)
                parent.record(ev.ChildEnded(self._clock(), child.id, Status.FAILED, failure=failure))
            elif (row.parent, row.parent_op) != (parent.run, child.id):
                error = RunConflictError(
                    f"child run {child.run_id!r} of run {parent.id!r} couldn't be started: the id belongs to "
                    "another run. Leave the id out, or choose one that is free"
                )
                failure = failure_of(error)
                parent.record(ev.ChildEnded(self._clock(), child.id, Status.FAILED, failure=failure))

    def check_errands(self, sender: Driver, steps: Sequence[RunStep]) -> None:
        """Send steps again whose errands aren't in this database: the run came here without them."""
        self._aside(self._check_errands(sender, steps))

    async def _check_errands(self, sender: Driver, steps: Sequence[RunStep]) -> None:
        sent = [(step, step.sent) for step in steps if step.sent is not None]
        within = prefix_of(sender.id)
        rows = await self._persistently(lambda: self._store.get([within + event.run for _, event in sent]))
        for (step, event), row in zip(sent, rows, strict=True):
            if row is None and step.sent is event and sender.machine.operations.get(step.id) is step:
                elsewhere.miss(sender, step)
        sender.flush()

    def cancel(self, parent: Driver, operation: StartChild, reason: str, told: Callable[[], None]) -> None:
        """Ask a child to cancel, and say when it has been `told`. Until then its parent stays in memory."""
        operation.called_off = True
        self._aside(self._cancel(prefix_of(parent.id) + operation.run_id, operation, reason, told))

    async def _cancel(self, id: str, operation: StartChild, reason: str, told: Callable[[], None]) -> None:
        event = encode_event(ev.CancelRequested(at=self._clock(), reason=reason))
        await self._persistently(lambda: self._store.send(id, event, now=self._clock()))
        operation.called_off = False
        told()

    def send(self, sender: Driver, message: SendMessage) -> None:
        """Send what a run's code has asked to send."""
        self._aside(self._send(sender, message))

    async def _send(self, sender: Driver, message: SendMessage) -> None:
        # The receiver is looked at first, so that the code can be told. If it ends after that look, the message
        # is kept with it as undelivered.
        to = prefix_of(sender.id) + message.to
        (row,) = await self._persistently(lambda: self._store.get([to]))
        if sender.gone or sender.machine.operations.get(message.id) is not message:
            return  # given up meanwhile
        now = sender.now()
        if not message_reaches(sender, message, row):
            sender.record(sent_message(now, message, withheld=True))
            return
        if row is None or row.ended_at is not None or row.mail >= INBOX_MAX:
            why = "unknown_run" if row is None else "inbox_full" if row.ended_at is None else "run_ended"
            sender.record(
                ev.MessageRefused(now, message=message.id, run=message.to, name=message.name, why=why)
            )
            return
        event = sent_message(now, message)
        received = ev.MessageReceived(
            now, name=message.name, payload=message.payload, sender=short(sender.id)
        )
        sender.write_down(event, [DeliverMessage(message.to, encode_event(received))])
        sender.flush()

    async def _persistently(self, verb: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        while True:
            try:
                return await verb()
            except StoreError as error:
                logger.warning("couldn't look after child runs, will try again: %s", error)
                await asyncio.sleep(RETRY_EVERY)


def sent_message(now: float, message: SendMessage, *, withheld: bool = False) -> ev.MessageSent:
    """What a history tells of a message that its run's code has sent."""
    data = message.payload
    whole = len(data) <= RECORD_INPUTS_MAX
    return ev.MessageSent(
        now,
        message=message.id,
        run=message.to,
        name=message.name,
        payload=data if whole else None,
        fingerprint=None if whole else fingerprint(data),
        withheld=withheld,
    )


def row_of(run: NewRun, key: int, epoch: int) -> RunRow:
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
        generation=run.generation,
        next=None,
        version=None,
        pinned=run.pinned,
        chain=first_link(run.id, run.generation, run.first_event),
        key=run.key,
        priority=run.priority,
    )
