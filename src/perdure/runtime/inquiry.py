"""Asking runs: a query is answered where the code is.

If the run is in memory here, its handler is called there. Else its durable history is replayed into a scratch
machine, without any effect, and that is asked; so queries of finished and blocked runs have answers, too. A process
without the code puts the inquiry into the store, and a worker that has the code takes it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from perdure.codec.failures import failure_of
from perdure.core import events as ev
from perdure.core.machine import Machine
from perdure.errors import HandlerUnreachableError, PerdureError, StoreError, UnknownRunError
from perdure.runtime import guard
from perdure.runtime.definitions import WorkflowDefinition, workflow_named, workflow_names
from perdure.runtime.entitycalls import EntityCalls
from perdure.runtime.handlers import PLAIN, handler_exception
from perdure.runtime.looking import answer, look
from perdure.runtime.lookout import Lookout
from perdure.runtime.machines import let_go, replayed
from perdure.runtime.settings import Settings
from perdure.runtime.turns import Turns
from perdure.runtime.updatecalls import UpdateCalls
from perdure.storage.inquiries import NewInquiry, TakenInquiry
from perdure.storage.protocol import Store
from perdure.storage.records import RunRow

if TYPE_CHECKING:
    from perdure.runtime.driver import Driver

logger = logging.getLogger("perdure.inquiry")

EXPIRY = 60.0  #: seconds that an inquiry waits for an answer
LOOK_EVERY = 1.0  #: seconds between looks whether anybody who could answer still lives
AGAIN = 2.0  #: seconds after which another worker may take up an inquiry


class _Reply(msgspec.Struct):
    """The answer to an inquiry that went through the store."""

    result: bytes | None = None
    failure: ev.Failure | None = None


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Reply).decode


class Drives(Protocol):
    """The worker of this process."""

    drivers: dict[int, Driver]
    turns: Turns

    @property
    def id(self) -> int: ...


class Inquiry:
    """All that goes to handlers of runs, from this process or through it.

    Args:
        within: what the stored ids begin with in the namespace that `store` shows.

    Attributes:
        updates: calls of update handlers.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        nudge: Callable[[], None],
        within: str = "",
    ) -> None:
        self._store = store
        self._loop = loop
        self._settings = settings
        self._nudge = nudge
        self._worker: Drives | None = None
        self._turns: Turns | None = None
        self._replies: Lookout[int, bytes] = Lookout(loop, store.inquiries.answers)
        self._decoders: dict[tuple[str, str], Callable[[bytes], Any]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._looking = False
        self._again = False
        self.updates = UpdateCalls(store, loop, settings.clock, nudge, within)
        self.entities = EntityCalls(store, self.updates, settings)

    def serve(self, worker: Drives) -> None:
        """From now on, answer for the runs that are driven here, and inquiries that come through the store."""
        self._worker = worker
        self.look_soon()

    def lend(self, other: Inquiry) -> None:
        """Let somebody who sees a namespace of the same store ask the runs that are driven here."""
        other._worker = self._worker
        self.updates.lend(other.updates)
        self._replies.others.append(other._replies)

    def check_soon(self) -> None:
        """Somebody has committed something."""
        self.updates.answers.check_soon()
        self._replies.check_soon()

    def close(self, error: BaseException) -> None:
        """Nobody will be told any more: everyone who waits gets `error`."""
        for task in list(self._background):
            task.cancel()
        self.updates.answers.close(error)
        self._replies.close(error)
        if self._turns is not None:
            self._turns.close()

    # -- asking -------------------------------------------------------------------------------------

    async def query(self, row: RunRow, name: str, input: bytes) -> Any:
        """Ask a run's query handler.

        Raises:
            UnknownHandlerError: it has none of this name.
            ReadOnlyError: the handler tried to act.
            HandlerUnreachableError: the code isn't here, and nobody who has it answered.
            NonDeterminismError, UndecodableError: its history can't be replayed with the code that is here.
            Exception: what the handler raised.
        """
        definition = self._code(row.workflow)
        if definition is None:
            return PLAIN.decode(await self._ask(row, name, input))
        try:
            return (await self._answer(row, definition, name, input))[1]
        except PerdureError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is the asker's
            where = f"query {name!r} of run {row.id!r}"
            raise handler_exception(failure_of(error), where) from None

    async def update(
        self, row: RunRow, name: str, input: bytes, key: str | None, timeout: float | None
    ) -> Any:
        """Call a run's update handler. Raises what UpdateCalls.call raises."""
        data = await self.updates.call(row.id, name, input, key=key, timeout=timeout)
        return (await self._decoder(row, name))(data)

    async def _decoder(self, row: RunRow, name: str) -> Callable[[bytes], Any]:
        """How a result of this update handler is read: by its annotation, if this process has the code."""
        definition = self._code(row.workflow)
        if definition is None:
            return PLAIN.decode
        known = (row.workflow, name)
        if known not in self._decoders:
            driver = self._driver(row)
            if driver is not None:
                self._learn(row, driver.machine)
            else:
                with contextlib.suppress(PerdureError):
                    machine = await self._scratch(row, definition)
                    self._learn(row, machine)
                    let_go(machine, self._our_turns())
        return self._decoders.get(known, PLAIN.decode)

    def _code(self, workflow: str) -> WorkflowDefinition | None:
        return workflow_named(workflow)

    def _learn(self, row: RunRow, machine: Machine) -> None:
        if machine.handlers is not None:
            for name, handler in machine.handlers.updates.items():
                self._decoders[row.workflow, name] = handler.decode

    # -- answering ----------------------------------------------------------------------------------

    async def _answer(
        self, row: RunRow, definition: WorkflowDefinition, name: str, input: bytes
    ) -> tuple[bytes, Any]:
        driver = self._driver(row)
        if driver is not None:
            machine = driver.machine
            return driver.reception().look(lambda: answer(machine, name, input))
        machine = await self._scratch(row, definition)
        turns = self._our_turns()
        try:
            return look(turns, machine, definition.guard, lambda: answer(machine, name, input))
        finally:
            let_go(machine, turns)

    def _driver(self, row: RunRow) -> Driver | None:
        """Who drives the run here, if its state in memory can be looked at."""
        driver = None if self._worker is None else self._worker.drivers.get(row.run)
        return driver if driver is not None and driver.reception().sound() else None

    async def _scratch(self, row: RunRow, definition: WorkflowDefinition) -> Machine:
        (history,) = await self._store.load([row.run])
        return await replayed(row, definition, history, self._our_turns(), self._settings.max_payload)

    def _our_turns(self) -> Turns:
        if self._worker is not None:
            return self._worker.turns
        if self._turns is None:
            guard.install()
            self._turns = Turns(self._settings.turn_limit)
        return self._turns

    # -- through the store --------------------------------------------------------------------------

    async def _ask(self, row: RunRow, name: str, input: bytes) -> bytes:
        """Let a worker that has the code answer."""
        store, now = self._store, self._settings.clock()
        await self._check_reachable(row, name)
        inquiry = NewInquiry(row.id, row.workflow, name, input, now + EXPIRY)
        number = await store.inquiries.ask(inquiry, now=now)
        waiter = self._replies.wait(number)
        try:
            self._nudge()
            deadline = self._loop.time() + EXPIRY
            while not (await asyncio.wait([waiter], timeout=min(LOOK_EVERY, EXPIRY)))[0]:
                if self._loop.time() >= deadline:
                    msg = (
                        f"query {name!r} of run {row.id!r} wasn't answered within {EXPIRY:.0f} s by any worker that "
                        f"has code for {row.workflow!r}: see with `perdure workers` what they do, and ask again"
                    )
                    raise HandlerUnreachableError(msg)
                await self._check_reachable(row, name)
            reply = _unpack(waiter.result())
        finally:
            self._replies.forget(number, waiter)
            with contextlib.suppress(StoreError):
                await store.inquiries.forget(number)
        if reply.failure is not None:
            raise handler_exception(reply.failure, f"query {name!r} of run {row.id!r}")
        assert reply.result is not None
        return reply.result

    async def _check_reachable(self, row: RunRow, name: str) -> None:
        """Raise HandlerUnreachableError if no live worker has the code."""
        now, here = self._settings.clock(), self._settings.whereabouts.host()
        for worker in await self._store.workers():
            if (
                row.workflow in worker.workflows
                and worker.lease_until >= now
                and not self._settings.whereabouts.gone(worker, here)
            ):
                return
        msg = (
            f"query {name!r} of run {row.id!r} can't be answered: this process has no code for {row.workflow!r}, "
            "and neither has any running worker. Import the workflow's module here, or start a worker that does "
            "(perdure worker MODULE)"
        )
        raise HandlerUnreachableError(msg)

    def look_soon(self) -> None:
        """There may be inquiries for this process."""
        if self._worker is None:
            return
        if self._looking:
            self._again = True
        else:
            self._looking = True
            self._aside(self._look())

    async def _look(self) -> None:
        try:
            while True:
                self._again = False
                names, now = workflow_names(), self._settings.clock()
                if self._worker is not None and await self._store.inquiries.waiting(names, now=now):
                    for inquiry in await self._store.inquiries.take(
                        self._worker.id, names, now=now, again=AGAIN
                    ):
                        self._aside(self._reply(inquiry))
                if not self._again:
                    return
        except StoreError as error:
            logger.warning("couldn't look for inquiries, will try again: %s", error)
        finally:
            self._looking = False

    async def _reply(self, inquiry: TakenInquiry) -> None:
        try:
            reply = await self._reply_to(inquiry)
            await self._store.inquiries.answer(inquiry.id, _pack(reply))
        except StoreError as error:
            logger.warning("couldn't answer query %r of run %s: %s", inquiry.name, inquiry.run_id, error)

    async def _reply_to(self, inquiry: TakenInquiry) -> _Reply:
        (row,) = await self._store.get([inquiry.run_id])
        definition = None if row is None else workflow_named(row.workflow)
        try:
            if row is None or definition is None:
                raise UnknownRunError(f"run {inquiry.run_id!r} is gone", run_id=inquiry.run_id)
            data, _ = await self._answer(row, definition, inquiry.name, inquiry.input)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - it is the asker's
            return _Reply(failure=failure_of(error))
        return _Reply(result=data)

    def _aside(self, work: Any) -> None:
        task: asyncio.Task[None] = self._loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
