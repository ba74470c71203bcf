"""One run, as seen from outside: its status, its result, its history, and its off-switch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any, Self, TypeVar, cast, overload

from perdure.api.connection import Connection
from perdure.api.decisions import UNDECIDED, choice, decision
from perdure.api.messages import new_mail
from perdure.api.operating import Operated
from perdure.api.runinfo import RunInfo, run_info
from perdure.api.streams import StreamItem, read_stream
from perdure.api.why import why
from perdure.codec.events import decode_event, encode_event
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.attributes import AttributeValue, attributes_json, attributes_of
from perdure.core.retry import seconds
from perdure.core.status import Status
from perdure.core.timeline import waits, with_heartbeat
from perdure.core.why import Why
from perdure.errors import RunConflictError, RunEndedError, UnknownRunError
from perdure.runtime.definitions import workflow_named
from perdure.runtime.handlers import encode_call
from perdure.runtime.outcomes import outcome
from perdure.storage.records import Delivery

R = TypeVar("R")
T = TypeVar("T")

_ANY = ValueCodec[Any](Any, "result of a workflow this process has no code for")


class Handle(Operated[R]):
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
            UnknownRunError: no run has this id.
        """
        connection = self._connection
        connection.check()
        waiter = connection.results.wait(self.id)  # before the look at the row, so that no end is missed
        try:
            row = await connection.row(self.id)
            if Status(row.status).final:
                (data,) = await connection.store.last_event([row.run])
                event = decode_event(data)
            else:
                limit = None if timeout is None else seconds(timeout, "timeout")
                _, event = await asyncio.wait_for(waiter, limit)
        except TimeoutError:
            msg = f"run {self.id!r} hasn't ended within {timeout} s; it goes on"
            raise TimeoutError(msg) from None
        finally:
            connection.results.forget(self.id, waiter)
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
        events = [event async for event in self._connection.history(row.run)]
        undelivered, set_aside = await self._connection.strays(row, events)
        found = await self._connection.store.attributes.of([row.run])
        attributes = found.get(row.run, ())
        waiting = waits(events)
        if any(wait.kind in ("step", "retry") for wait in waiting):
            (whole,) = await self._connection.store.load([row.run])
            told = {detail.step: (detail.data, detail.at) for detail in whole.details}
            waiting = [with_heartbeat(wait, told.get(wait.id)) for wait in waiting]
        info = run_info(row, tuple(waiting), undelivered, set_aside, attributes=attributes)
        return info.with_request(await self._connection.held_request(row))

    async def history(self, *, generation: int | None = None) -> AsyncIterator[ev.Event]:
        """The run's events so far, in order.

        Args:
            generation: those of an earlier run of this id, counted from 1; by default of the newest.

        Raises:
            UnknownRunError: no run has this id, or this generation.
        """
        row = await self._connection.generation(self.id, generation)
        async for event in self._connection.history(row.run):
            yield event

    async def send(self, name: str, value: Any, *, key: str | None = None) -> None:
        """Send the run a message: durable when this returns, delivered once, in the order of sending.

        The run may not have begun yet, may not wait for the message yet, or be blocked; it is kept until the
        code receives it. A run that ends first keeps it as undelivered.

        Args:
            name: the message's name, as given to `receive`.
            value: plain data, or anything else that has a JSON form.
            key: makes sending idempotent: a second message of this name and key to this run is ignored.

        Raises:
            UnknownRunError: no run has this id.
            RunEndedError: it has ended (and has had no message of this name and key before).
            NotSerializableError, PayloadTooLargeError: the value can't be recorded.
            UsageError: the name or the key can't be a message's.

        Example:
            >>> await engine.get("order-7").send("approval", True, key="mail-81")  # doctest: +SKIP
        """
        connection = self._connection
        connection.check()
        now = connection.clock()
        mail = new_mail(name, value, key, at=now, max_payload=connection.max_payload)
        delivery = await connection.store.send(self.id, mail.data, now=now, kind=mail.kind, key=mail.key)
        self._known(delivery)
        if delivery is Delivery.RUN_ENDED:
            raise ended_error(self.id, f"message {name!r} wasn't")

    @overload
    def stream(
        self, name: str, after: int | None = None, *, superseded: bool = False, follow: bool = True
    ) -> AsyncIterator[StreamItem[Any]]: ...
    @overload
    def stream(
        self,
        name: str,
        after: int | None = None,
        *,
        type: type[T],
        superseded: bool = False,
        follow: bool = True,
    ) -> AsyncIterator[StreamItem[T]]: ...
    def stream(
        self,
        name: str,
        after: int | None = None,
        *,
        type: Any = Any,
        superseded: bool = False,
        follow: bool = True,
    ) -> AsyncIterator[StreamItem[Any]]:
        """What the run puts into a stream, in order, until the run has ended and all of it is read.

        Args:
            name: the stream, as in `perdure.emit(name, item)`. One that nothing was put into is empty.
            after: start behind the item with this offset; by default from the first.
            type: read the values as this; plain JSON by default.
            superseded: include items of failed and lost attempts that are known to be void. Without it they
                are left out; of what becomes void after it was read, an item of kind "superseded" tells.
            follow: wait for more while the run goes on. False stops at what there is now.

        Raises:
            UnknownRunError: no run has this id.
            UndecodableError: an item can't be read as `type`.

        Example:
            >>> async for item in handle.stream("tokens", after=last_seen):  # doctest: +SKIP
            ...     print(item.value, end="")
        """
        self._connection.check()
        return read_stream(
            self._connection,
            self.id,
            name,
            after=after or 0,
            type=type,
            superseded=superseded,
            follow=follow,
        )

    async def why(self) -> Why:
        """Why the run doesn't go on: what it waits for, since when, and what to do; children included.

        Raises:
            UnknownRunError: no run has this id.
        """
        return await why(self._connection, self.id)

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
        event = encode_event(ev.CancelRequested(at=now, reason=reason))
        self._connection.check()
        self._known(await self._connection.store.send(self.id, event, now=now))

    async def query(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Ask one of the run's query handlers (see `perdure.on_query`). It changes nothing and leaves no trace.

        It is answered by the run in memory, or from its history by any process that has the workflow's code;
        so ended, blocked and paused runs have answers, too. A process without the code (a client, the command
        line) has a worker answer; the value is then the plain JSON of it.

        Args:
            name: the handler's name.
            args, kwargs: what it is called with, read by its annotations.

        Raises:
            UnknownHandlerError: the run has no such handler.
            ReadOnlyError: the handler tried to act.
            HandlerUnreachableError: nobody who has the code could be reached.
            UnknownRunError: no run has this id.
            Exception: what the handler raised; HandlerFailed if that can't be rebuilt here.

        Example:
            >>> await handle.query("progress")  # doctest: +SKIP
            {'done': 3, 'left': 7}
        """
        row = await self._connection.row(self.id)
        input = encode_call(args, kwargs, f"query {name}")
        return await self._connection.inquiry.query(row, name, input)

    async def update(
        self,
        name: str,
        /,
        *args: Any,
        key: str | None = None,
        timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call one of the run's update handlers (see `perdure.on_update`) and wait for its result.

        The call is durable before this waits, and an update once accepted survives crashes. It waits for a run
        that hasn't begun yet, or that is paused or blocked.

        Args:
            name: the handler's name.
            args, kwargs: what it is called with, read by its annotations.
            key: makes the call idempotent: with a key that the run has had before nothing is called, and the
                answer is that of the first call, also after the run's end.
            timeout: how long to wait, in seconds. The update goes on, whatever becomes of this wait.

        Raises:
            UpdateRejected: the validator said no, or the arguments don't fit. Nothing is in the history.
            UnknownHandlerError: the run has no such handler after its first activation.
            RunConflictError: the key belongs to a call with other arguments.
            RunEndedError: the run has ended, or ended before the update did.
            TimeoutError: it hasn't ended within `timeout`.
            UnknownRunError: no run has this id.
            Exception: what the handler raised; HandlerFailed if that can't be rebuilt here.

        Example:
            >>> await handle.update("add", "milk", key="request-7")  # doctest: +SKIP
        """
        row = await self._connection.row(self.id)
        input = encode_call(args, kwargs, f"update {name}")
        limit = None if timeout is None else seconds(timeout, "timeout")
        return await self._connection.inquiry.update(row, name, input, key, limit)

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
            event = encode_event(ev.CancelRequested(at=now, reason=reason, terminate=True))
            delivery = await store.send(self.id, event, now=now)
        else:
            event = encode_event(ev.RunTerminated(at=now, reason=reason))
            delivery = await store.terminate(self.id, event, now=now)
        self._known(delivery)
        if delivery is Delivery.RUN_ENDED:
            msg = f"run {self.id!r} can't be terminated: it has ended already"
            raise RunConflictError(msg)
        if self._connection.worker is not None:
            self._connection.worker.check_ownership_soon()

    async def resolve(
        self,
        step: str,
        *,
        result: Any = UNDECIDED,
        rerun: bool = False,
        fail: str | bool = False,
        by: str | None = None,
        why: str | None = None,
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

        Raises:
            UnknownRunError: no run has this id.
            NothingToDecideError: no such step of the run waits for a decision, or one is on its way already.
            NotSerializableError: the result can't be recorded, or isn't of the step's declared type.
            UsageError: not exactly one of the three was given.

        Example:
            >>> await engine.get("order-7").resolve("charge", result="receipt-1")  # doctest: +SKIP
        """
        decided = choice(result=result, rerun=rerun, fail=fail, by=by, why=why)
        row = await self._connection.row(self.id)
        (history,) = await self._connection.store.load([row.run])
        now = self._connection.clock()
        event = decision(self.id, history, step, decided, now=now)
        self._known(await self._connection.store.send(self.id, encode_event(event), now=now))

    def _known(self, delivery: Delivery) -> None:
        if delivery is Delivery.UNKNOWN_RUN:
            msg = f"no run has the id {self.id!r} in this database: look it up with `perdure ls`"
            raise UnknownRunError(msg, run_id=self.id)
        self._connection.nudge()

    def _sibling(self, id: str) -> Self:
        return type(self)(self._connection, id, self._decode)

    def __repr__(self) -> str:
        return f"<run {self.id!r}>"


def ended_error(id: str, lost: str) -> RunEndedError:
    """The error of whoever sends something to a run that has ended. `lost` says what, as "message 'a' wasn't"."""
    return RunEndedError(
        f"run {id!r} has ended: {lost} delivered. Send what a run needs before it ends, or start another run for it"
    )


def _decoder(workflow: str) -> Callable[[bytes], Any]:
    definition = workflow_named(workflow)
    return _ANY.decode if definition is None else definition.result.decode
