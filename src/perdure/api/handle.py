"""One run, as seen from outside: its status, its result, its history, and its off-switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from perdure.api.connection import Connection
from perdure.api.decisions import UNDECIDED, choice, decision
from perdure.api.operating import Operated
from perdure.api.runinfo import RunInfo, run_info
from perdure.api.sent import with_errands
from perdure.api.spending import Usage, report
from perdure.api.talking import Addressed
from perdure.api.travelled import Travelled
from perdure.codec.events import encode_event
from perdure.codec.values import ValueCodec, check_size
from perdure.core import events as ev
from perdure.core.attributes import AttributeValue, attributes_json, attributes_of
from perdure.core.bounds import mended
from perdure.core.retry import seconds
from perdure.core.status import Status
from perdure.core.timeline import waits, with_heartbeat
from perdure.errors import PerdureError, RunConflictError
from perdure.runtime.definitions import workflow_named
from perdure.runtime.outcomes import outcome
from perdure.runtime.results import last_of
from perdure.runtime.soundness import refuse_damaged
from perdure.storage.records import Delivery

if TYPE_CHECKING:
    from perdure.core.why import Why

R = TypeVar("R")

_ANY = ValueCodec[Any](Any, "result of a workflow this process has no code for")


class Handle(Addressed, Travelled, Operated[R]):
    """A run by its id. Making one does no I/O; its methods do.

    Attributes:
        id: the run's id.
    """

    def __init__(self, connection: Connection, id: str, decode: Callable[[bytes], Any] | None = None) -> None:
        self.id = id
        self._connection = connection
        self._decode = decode

    async def result(self, timeout: float | timedelta | None = None) -> R:
        """Wait until the run ends and return its result.

        Args:
            timeout: how long to wait, in seconds. The run goes on, whatever becomes of this wait.

        Raises:
            RunFailed: an exception left the workflow; it is the `__cause__`, if it can be rebuilt here.
            RunTimedOut, RunCancelled, RunTerminated: as they say.
            TimeoutError: it hasn't ended within `timeout`.
            DamagedHistoryError: what is stored of its result isn't what was recorded.
            UnknownRunError: no run has this id.
        """
        connection = self._connection
        connection.check()
        waiter = connection.results.wait(self.id)  # before the look at the row, so that no end is missed
        try:
            row = await connection.row(self.id)
            if Status(row.status).final:
                (newest,) = await connection.store.last_event([row.run])
                event = last_of(self.id, newest)
            else:
                limit = None if timeout is None else seconds(timeout, "timeout")
                _, event = await asyncio.wait_for(waiter, limit)
        except TimeoutError:
            msg = f"run {self.id!r} hasn't ended within {timeout} s; it goes on. Ask for its result again, or cancel it"
            raise TimeoutError(msg) from None
        finally:
            connection.results.forget(self.id, waiter)
        if isinstance(event, PerdureError):
            raise event
        return cast("R", outcome(self.id, event, self._decode or _decoder(row.workflow)))

    async def status(self) -> Status:
        """Where the run stands.

        Raises:
            UnknownRunError: no run has this id.
        """
        return Status((await self._connection.row(self.id)).status)

    async def info(self, *, generation: int | None = None) -> RunInfo:
        """All about the run at this moment, what it waits for included.

        Args:
            generation: look at an earlier run of this id, counted from 1; by default at the newest.

        Raises:
            UnknownRunError: no run has this id, or this generation.
        """
        row = await self._connection.generation(self.id, generation)
        events = await self._connection.readable(row)
        undelivered, set_aside = await self._connection.strays(row, events)
        found = await self._connection.store.attributes.of([row.run])
        attributes = found.get(row.run, ())
        waiting = waits(events)
        if any(wait.kind in ("step", "retry") for wait in waiting):
            (whole,) = await self._connection.store.load([row.run])
            told = {detail.step: (detail.data, detail.at) for detail in whole.details}
            waiting = [with_heartbeat(wait, told.get(wait.id)) for wait in waiting]
            waiting = await with_errands(self._connection.store, waiting)
        info = run_info(row, tuple(waiting), undelivered, set_aside, attributes=attributes)
        if row.owner is not None:
            rows = await self._connection.store.workers()
            info = replace(info, worker=next((each.name for each in rows if each.id == row.owner), None))
        return info.with_request(await self._connection.held_request(row))

    async def history(
        self, *, generation: int | None = None, after: int = 0, follow: bool = False
    ) -> AsyncIterator[ev.Event]:
        """The run's events so far, in order.

        Of an event that is encrypted, and can't be opened here, its head: an `ev.Sealed`.

        Args:
            generation: those of an earlier run of this id, counted from 1; by default of the newest.
            after: start behind the event with this number, counted from 1.
            follow: wait for more until the run has ended.

        Raises:
            UnknownRunError: no run has this id, or this generation.
            UndecodableError: the next event can't be read; of a damaged history there may be others than were recorded.
        """
        connection = self._connection
        if follow:
            from perdure.api.following import follow as follow_up

            async for _, event in follow_up(connection, self.id, generation=generation, after=after):
                yield event
            return
        row = await connection.generation(self.id, generation)
        async for shown in connection.shown(row.run, after=after):
            yield cast(ev.Event, shown)  # a Sealed has what all events have

    async def why(self) -> Why:
        """Why the run doesn't go on: what it waits for, since when, and what to do; children included.

        Raises:
            UnknownRunError: no run has this id.
        """
        from perdure.api.why import why

        return await why(self._connection, self.id)

    async def usage(self) -> Usage:
        """What the run has spent so far: its earlier generations and everything that it has started included.

        Raises:
            UnknownRunError: no run has this id.
        """
        (line,) = await report(self._connection, None, run=self.id)
        return line.usage

    async def set_attributes(self, **values: AttributeValue | None) -> None:
        """Set attributes of the run, by which it can be found; also after its end. Durable when it returns.

        Args:
            values: as for `perdure.set_attributes`; None removes one.

        Raises:
            UsageError: a value can't be an attribute.
            UnknownRunError: no run has this id.
        """
        attributes = attributes_of(values)
        self._connection.check()
        now = self._connection.clock()
        event = encode_event(ev.AttributesSet(at=now, op="", values=attributes_json(attributes)))
        self._known(await self._connection.store.attributes.set(self.id, attributes, event, now=now))

    async def cancel(self, reason: str | None = None) -> None:
        """Ask the run to cancel; returns once the request is durable.

        CancelledError arrives at the run's current await, once. A run that has ended already, or is being
        cancelled already, stays as it is.

        Raises:
            UnknownRunError: no run has this id.
        """
        now = self._connection.clock()
        event = encode_event(ev.CancelRequested(at=now, reason=given(reason)))
        self._connection.check()
        self._known(await self._connection.store.send(self.id, event, now=now))

    async def terminate(self, reason: str | None = None, *, compensate: bool = False) -> None:
        """End the run at once, without running any of its code; or let it compensate first.

        Args:
            reason: why; its history keeps it.
            compensate: cancel the run, so that its `finally` blocks and Sagas do their work. It then ends as
                terminated whatever its code makes of that; this returns once the request is durable.

        Raises:
            UnknownRunError: no run has this id.
            RunConflictError: it has ended already.
        """
        now = self._connection.clock()
        store = self._connection.store
        self._connection.check()
        if compensate:
            event = encode_event(ev.CancelRequested(at=now, reason=given(reason), terminate=True))
            delivery = await store.send(self.id, event, now=now)
        else:
            event = encode_event(ev.RunTerminated(at=now, reason=given(reason)))
            delivery = await store.terminate(self.id, event, now=now)
        self._known(delivery)
        if delivery is Delivery.RUN_ENDED:
            msg = f"run {self.id!r} can't be terminated: it has ended already. Nothing was changed"
            raise RunConflictError(msg)
        if self._connection.worker is not None:
            self._connection.worker.check_ownership_soon()
        if self._connection.observer is not None and not compensate:
            self._connection.observer.ended_outside(self._connection.within + self.id)

    async def resolve(
        self,
        step: str,
        *,
        result: Any = UNDECIDED,
        rerun: bool = False,
        fail: str | bool = False,
        by: str | None = None,
        why: str | None = None,
        since: float | datetime | None = None,
    ) -> None:
        """Decide about a step that waits for a person; returns once the decision is durable.

        A step waits for one if nobody knows whether it happened (`once=True`), or when its attempts are used up
        under `Retry(on_exhausted="block")`. Give one of `result`, `rerun` and `fail`.

        Args:
            step: the step's id within its run, or its name if only one of that name waits.
            result: it is done, with this result.
            rerun: run it again, from its first attempt on.
            fail: let it fail in the workflow: with this message, or with its last error (True).
            by: who decided; the history keeps it.
            why: and why.
            since: which of its waits this is about: when it began, as `info().waiting_for` tells. If the step was run
                again meanwhile, and waits because of another attempt, the decision is refused; one that comes too
                late for that changes nothing. Without it the decision is about whatever the step waits for now.

        Raises:
            UnknownRunError: no run has this id.
            NothingToDecideError: no such step of the run waits for a decision, or one is on its way already; or it
                doesn't wait since `since`.
            NotSerializableError: the result can't be recorded, or isn't of the step's declared type.
            UsageError: not exactly one of the three was given.

        Example:
            >>> await engine.get("order-7").resolve("charge", result="receipt-1")  # doctest: +SKIP
        """
        decided = choice(result=result, rerun=rerun, fail=fail, by=by, why=why, since=since)
        row = await self._connection.row(self.id)
        (history,) = await self._connection.store.load([row.run])
        refuse_damaged(self.id, history)
        now = self._connection.clock()
        event = decision(self.id, history, step, decided, now=now)
        if isinstance(event, ev.StepCompleted):
            check_size(event.result, self._connection.max_payload, f"result given for step {event.step}")
        self._known(await self._connection.store.send(self.id, encode_event(event), now=now))

    def _sibling(self, id: str) -> Self:
        return type(self)(self._connection, id, self._decode)

    def __repr__(self) -> str:
        return f"<run {self.id!r}>"


def _decoder(workflow: str) -> Callable[[bytes], Any]:
    definition = workflow_named(workflow)
    return _ANY.decode if definition is None else definition.result.decode


def given(reason: str | None) -> str | None:
    """A reason that somebody gives, as every store can keep it."""
    return None if reason is None else mended(reason)
