"""The part of an engine that starts runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from perdure.api.call import Call, WorkflowCall
from perdure.api.connection import Connection
from perdure.api.handle import Handle
from perdure.api.messages import Message, with_messages
from perdure.api.sealing import with_subject
from perdure.api.starting import create_runs, workflow_call
from perdure.core.attributes import AttributeValue, attributes_of
from perdure.core.retry import seconds
from perdure.errors import UsageError
from perdure.runtime.queues import Queue, queue_name
from perdure.runtime.runs import Place, new_run
from perdure.runtime.settings import Settings
from perdure.storage.chance import chance
from perdure.storage.records import NewRun

if TYPE_CHECKING:
    from perdure.runtime.worker import Worker

R = TypeVar("R")


class Starter:
    """What makes new runs, drives them here if a worker has room, and hands out their handles."""

    _settings: Settings
    _worker: Worker | None

    if TYPE_CHECKING:

        def _check(self) -> None: ...
        def _open(self) -> Connection: ...

    async def start(
        self,
        call: Call[R],
        *,
        id: str | None = None,
        queue: str | Queue | None = None,
        key: str | None = None,
        priority: int = 0,
        dedup: str | None = None,
        debounce: float | timedelta | None = None,
        debounce_max: float | timedelta | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
        subject: str | None = None,
    ) -> Handle[R]:
        """Start a run. It is durable when this returns. Starting is idempotent by id.

        Args:
            call: the workflow to run, as in `research("tardigrades")`.
            id: the run's id; a random one by default.
            queue: where it runs, by name or as a Queue; the engine's first queue by default.
            key: what the queue may treat apart, such as a tenant, see `Queue`.
            priority: the higher, the earlier it begins, in queues that heed it.
            dedup: while a run of the queue with the same one is live, no other is made: the handle is that
                run's, whatever the input. With if_exists="fail" that raises.
            debounce: seconds to wait for more starts with this dedup (or else this key), in place of `delay`. Until
                the run has begun, each of them replaces its input and lets it wait anew; once it has, the next
                one is another run's.
            debounce_max: seconds after which it begins, however many more come.
            delay: seconds to wait before it is driven.
            timeout: seconds after which it is cancelled, and ends as failed with RunTimedOut.
            messages: sent to the run in the same commit, `(name, value)` or `Message(name, value, key)`. A live
                run to which this attaches gets them, too.
            attributes: what it can be found by, see `perdure.set_attributes`.
            subject: whose data the run and its children hold, such as a customer's id. Under `perdure.Encryption` that
                is encrypted with a key of the subject's own, which `engine.erase(subject=...)` destroys.
            if_exists: with a run of this id there already, "attach" returns its handle if it is the same
                workflow with the same input; "fail" raises; "restart" runs it anew, as the next
                generation of the id, if that run has ended.

        Raises:
            RunConflictError: the id belongs to other work, or exists and if_exists="fail", or is live and
                if_exists="restart". The live run with the dedup is another workflow's.
            RunEndedError: the run to which this attaches has ended, and messages were to be sent to it.
            NotSerializableError: the input can't be recorded.
            StoreUnavailableError: it couldn't be written; nothing was started.

        Example:
            >>> handle = await engine.start(research("tardigrades"), id="r-1")  # doctest: +SKIP
        """
        item = self._new(
            call,
            id=id,
            queue=queue,
            key=key,
            priority=priority,
            dedup=dedup,
            debounce=debounce,
            debounce_max=debounce_max,
            delay=delay,
            timeout=timeout,
            attributes=attributes,
        )
        (handle,) = await self._create([call], [item], messages, if_exists, subject)
        return handle

    async def start_many(
        self,
        calls: Sequence[Call[R]],
        *,
        ids: Sequence[str] | None = None,
        queue: str | Queue | None = None,
        keys: Sequence[str | None] | None = None,
        priority: int = 0,
        dedups: Sequence[str | None] | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
        subject: str | None = None,
    ) -> list[Handle[R]]:
        """Start many runs in one commit. Arguments as for `start`; `ids`, `keys` and `dedups` in the order of `calls`.

        Each run gets all of the `messages`.
        """
        for call in calls:
            call.mark_used()
        for name, given in (("ids", ids), ("keys", keys), ("dedups", dedups)):
            if given is not None and len(given) != len(calls):
                msg = f"start_many() got {len(calls)} calls and {len(given)} {name}: give one for each call"
                raise UsageError(msg)
        items = [
            self._new(
                call,
                id=ids[index] if ids else None,
                queue=queue,
                key=keys[index] if keys else None,
                priority=priority,
                dedup=dedups[index] if dedups else None,
                delay=delay,
                timeout=timeout,
                attributes=attributes,
            )
            for index, call in enumerate(calls)
        ]
        return await self._create(calls, items, messages, if_exists, subject)

    async def run(
        self,
        call: Call[R],
        *,
        id: str | None = None,
        queue: str | Queue | None = None,
        key: str | None = None,
        priority: int = 0,
        dedup: str | None = None,
        debounce: float | timedelta | None = None,
        debounce_max: float | timedelta | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
        subject: str | None = None,
    ) -> R:
        """Start a run and wait for its result. With the id of an ended run: its result, no work redone.

        Raises:
            RunFailed, RunCancelled, RunTerminated: it ended without a result. And as `start`.
        """
        handle = await self.start(
            call,
            id=id,
            queue=queue,
            key=key,
            priority=priority,
            dedup=dedup,
            debounce=debounce,
            debounce_max=debounce_max,
            delay=delay,
            timeout=timeout,
            messages=messages,
            attributes=attributes,
            if_exists=if_exists,
            subject=subject,
        )
        return await handle.result()

    def _new(
        self,
        call: Call[Any],
        *,
        id: str | None,
        queue: str | Queue | None,
        key: str | None,
        priority: int,
        dedup: str | None,
        delay: float | timedelta | None,
        timeout: float | timedelta | None,
        attributes: Mapping[str, AttributeValue] | None,
        debounce: float | timedelta | None = None,
        debounce_max: float | timedelta | None = None,
    ) -> NewRun:
        called = workflow_call(call)
        self._check()
        where = self._settings.queues[0] if queue is None else queue_name(queue)
        worker = self._worker
        return new_run(
            id=chance.uuid4().hex if id is None else id,
            workflow=called.name,
            input=called.input(self._settings.max_payload),
            queue=where,
            now=self._settings.clock(),
            delay=0.0 if delay is None else seconds(delay, "delay"),
            timeout=None if timeout is None else seconds(timeout, "timeout"),
            owner=worker.id if worker is not None and worker.takes(called.name, where) else None,
            attributes=attributes_of(attributes or {}),
            place=Place(
                key=key,
                priority=priority,
                dedup=dedup,
                debounce=None if debounce is None else seconds(debounce, "debounce"),
                at_most=None if debounce_max is None else seconds(debounce_max, "debounce_max"),
            ),
            trace=self._open().here(),
        )

    async def _create(
        self,
        calls: Sequence[Call[R]],
        items: list[NewRun],
        messages: Sequence[Message | tuple[str, Any]],
        if_exists: str,
        subject: str | None,
    ) -> list[Handle[R]]:
        """Create the runs of these calls, and what comes with each of them."""
        if subject is not None:
            items = [with_subject(item, subject, self._open().store) for item in items]
        if messages:
            items = [with_messages(item, messages, if_exists, self._settings.max_payload) for item in items]
        meant = await create_runs(self._open(), items, if_exists)
        return [self._handle(call, id) for call, id in zip(calls, meant, strict=True)]

    def _handle(self, call: Call[R], id: str) -> Handle[R]:
        assert isinstance(call, WorkflowCall)
        return Handle(self._open(), id, call.definition.result.decode)
