"""Child runs: making them, cancelling them, and making sure they are ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from perdure.codec.events import encode_event
from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.commands import StartChild
from perdure.core.status import Status
from perdure.errors import RunConflictError, StoreError
from perdure.runtime.driver import Driver
from perdure.runtime.runs import new_run
from perdure.storage.protocol import Store
from perdure.storage.records import NewRun, RunRow

logger = logging.getLogger("perdure.family")

RETRY_EVERY = 0.5  #: seconds between attempts at what the store refused


class Family:
    """What a worker does for the parents it drives.

    Args:
        errand: runs a coroutine in the background until the worker closes.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float], errand: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._errand = errand

    def make(self, parent: Driver, operation: StartChild, owner: Callable[[str, str], int | None]) -> NewRun:
        """The child run that a parent's code asked for.

        Args:
            owner: who is to drive a new run of this workflow in this queue, None = whoever claims it.
        """
        queue = operation.call.queue or parent.queue
        return new_run(
            id=operation.run_id,
            workflow=operation.workflow,
            input=operation.input,
            queue=queue,
            now=self._clock(),
            owner=owner(operation.workflow, queue),
            parent_id=parent.id,
            parent=parent.run,
            parent_op=operation.id,
            on_parent_close=operation.on_parent_close,
        )

    def check(self, parent: Driver, children: Sequence[StartChild]) -> None:
        """Fail children whose run id turned out to belong to somebody else's run."""
        self._errand(self._check(parent, children))

    async def _check(self, parent: Driver, children: Sequence[StartChild]) -> None:
        rows = await self._persistently(lambda: self._store.get([child.run_id for child in children]))
        for child, row in zip(children, rows, strict=True):
            if row is None or (row.parent, row.parent_op) != (parent.run, child.id):
                error = RunConflictError(
                    f"child run {child.run_id!r} of run {parent.id!r} couldn't be started: the id belongs to "
                    "another run. Leave the id out, or choose one that is free"
                )
                failure = failure_of(error)
                parent.record(ev.ChildEnded(self._clock(), child.id, Status.FAILED, failure=failure))

    def cancel(self, id: str, reason: str, told: Callable[[], None]) -> None:
        """Ask a child to cancel, and say when it has been `told`."""
        self._errand(self._cancel(id, reason, told))

    async def _cancel(self, id: str, reason: str, told: Callable[[], None]) -> None:
        event = encode_event(ev.CancelRequested(at=self._clock(), reason=reason))
        await self._persistently(lambda: self._store.send(id, event, now=self._clock()))
        told()

    async def _persistently(self, verb: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        while True:
            try:
                return await verb()
            except StoreError as error:
                logger.warning("couldn't look after child runs, will try again: %s", error)
                await asyncio.sleep(RETRY_EVERY)


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
    )
