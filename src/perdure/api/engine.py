"""The engine: opens a database, drives runs there, and hands out handles to them."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Literal, TypeVar

from perdure.api.call import Call, WorkflowCall, current_machine
from perdure.api.callbacks import Callbacks
from perdure.api.connection import Connection
from perdure.api.doors import Doors
from perdure.api.handle import Handle
from perdure.api.listing import earliest, list_runs
from perdure.api.messages import Message, with_messages
from perdure.api.runinfo import RunInfo
from perdure.api.starting import create_runs, workflow_call
from perdure.api.workerinfo import WorkerInfo, worker_info
from perdure.core.attributes import AttributeFilter, AttributeValue, attributes_of, conditions_of
from perdure.core.retry import seconds
from perdure.errors import ConfigurationError, EngineClosedError, UsageError
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.results import Results
from perdure.runtime.runs import new_run
from perdure.runtime.settings import Settings, processors
from perdure.runtime.stepcontext import refuse_in_script
from perdure.runtime.worker import Worker
from perdure.storage.records import NewRun, RunFilter
from perdure.storage.urls import store_for

R = TypeVar("R")

_IN_WORKFLOW = (
    "an engine was used in workflow code, which can't be replayed. Await the call itself, or start it with "
    "`await perdure.start(call)`: it becomes a child run"
)


class Engine(Doors):
    """Durable execution on one database. An async context manager; entering it recovers interrupted runs.

    Args:
        url: `sqlite:///agents.db`, or `memory:` for tests. By default the environment's PERDURE_URL.
        worker: drive runs in this process. False makes a client only: it starts runs, others drive them.
        queues: the queues its worker serves; the first one is the default for runs started here.
        concurrency: how many steps execute at once.
        threads: how many of them may be sync steps, each in a thread.
        processes: how many of them may be steps with process=True; by default one for each processor.
        evict_after: seconds after which a run that only waits leaves memory.
        max_resident: how many runs are in memory at once.
        lease: seconds after which a worker that isn't heard of counts as dead. One that died on the same
            host is noticed within a second.
        max_recoveries: a run that takes its worker down more often than this in a row is blocked.
        turn_limit: seconds workflow code may run without awaiting; None = for ever (for debuggers).
        max_payload: largest encoded input or result, in bytes.
        grace: seconds that executing steps have to finish when the engine closes.
        name: the worker's name in listings.
        version: what you call the version of this program's code, see `workflow(pinned=True)`.

    Raises:
        ConfigurationError: the url or a number can't be used.

    Example:
        >>> async def main() -> None:
        ...     async with Engine("sqlite:///agents.db") as engine:
        ...         print(await engine.run(research("tardigrades"), id="r-1"))
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        worker: bool = True,
        queues: Sequence[str] = ("default",),
        concurrency: int = 1000,
        threads: int = 32,
        processes: int | None = None,
        evict_after: float = 60.0,
        max_resident: int = 10_000,
        lease: float = 15.0,
        max_recoveries: int = 10,
        turn_limit: float | None = 2.0,
        max_payload: int = 2 * 1024 * 1024,
        grace: float = 5.0,
        name: str | None = None,
        version: str | None = None,
    ) -> None:
        if current_machine() is not None:
            raise UsageError(_IN_WORKFLOW)
        refuse_in_script()
        chosen = url or os.environ.get("PERDURE_URL")
        if not chosen:
            msg = 'no database: pass one, as in Engine("sqlite:///agents.db"), or set PERDURE_URL'
            raise ConfigurationError(msg)
        self.url = chosen
        self._drives = worker
        self._settings = Settings(
            queues=queues if isinstance(queues, str) else tuple(queues),
            concurrency=concurrency,
            threads=threads,
            processes=processors() if processes is None else processes,
            evict_after=evict_after,
            max_resident=max_resident,
            lease=lease,
            max_recoveries=max_recoveries,
            turn_limit=turn_limit,
            max_payload=max_payload,
            grace=grace,
            name=name,
            version=version or "",
        )
        self._store = store_for(chosen)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._worker: Worker | None = None
        self._poll: asyncio.Task[None] | None = None

    # -- life ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        if self._loop is not None:
            msg = "this engine was entered already: make a new one"
            raise UsageError(msg)
        self._loop = asyncio.get_running_loop()
        connection = Connection(self._store, Results(self._store, self._loop), self._settings.clock)
        connection.check = self._check
        connection.inquiry = Inquiry(self._store, self._loop, self._settings, connection.nudge)
        connection.max_payload = self._settings.max_payload
        await self._store.open(self._changed)
        self._connection = connection
        try:
            if self._drives:
                worker = Worker(
                    self._store,
                    self._loop,
                    self._settings,
                    connection.results,
                    connection.inquiry,
                    connection.listeners,
                )
                await worker.start()
                self._worker = connection.worker = worker
                connection.inquiry.serve(worker)
            else:
                self._poll = self._loop.create_task(self._poll_results())
        except BaseException:
            self._connection = None
            await self._store.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let executing steps finish for up to `grace` seconds, hand every run back, disconnect."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if self._poll is not None:
                self._poll.cancel()
            if self._worker is not None:
                await self._worker.close(self._settings.grace)
        finally:
            error = EngineClosedError("the engine was closed; the run goes on when one is open")
            connection.listeners.all_changed()
            connection.results.close(error)
            connection.inquiry.close(error)
            await self._store.close()

    def _changed(self) -> None:
        if self._connection is not None:
            self._connection.nudge()

    async def _poll_results(self) -> None:
        """A client without a worker asks now and then, in case a hint was lost."""
        while self._connection is not None:
            await asyncio.sleep(1.0)
            self._connection.results.check_soon()
            self._connection.inquiry.check_soon()

    def _check(self) -> None:
        if current_machine() is not None:
            raise UsageError(_IN_WORKFLOW)
        if self._connection is None:
            msg = "the engine isn't open: use it inside `async with Engine(...) as engine:`"
            raise EngineClosedError(msg)
        if asyncio.get_running_loop() is not self._loop:
            msg = "the engine belongs to another event loop: use it in the loop that entered it, or make one per loop"
            raise UsageError(msg)

    def _open(self) -> Connection:
        self._check()
        assert self._connection is not None
        return self._connection

    # -- runs ---------------------------------------------------------------------------------------

    async def start(
        self,
        call: Call[R],
        *,
        id: str | None = None,
        queue: str | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
    ) -> Handle[R]:
        """Start a run. It is durable when this returns. Starting is idempotent by id.

        Args:
            call: the workflow to run, as in `research("tardigrades")`.
            id: the run's id; a random one by default.
            queue: where it runs; the engine's first queue by default.
            delay: seconds to wait before it is driven.
            timeout: seconds after which it is cancelled, and ends as failed with RunTimedOut.
            messages: sent to the run in the same commit, `(name, value)` or `Message(name, value, key)`. A live
                run to which this attaches gets them, too.
            attributes: what it can be found by, see `perdure.set_attributes`.
            if_exists: with a run of this id there already, "attach" returns its handle if it is the same
                workflow with the same input; "fail" raises; "restart" runs it anew, as the next
                generation of the id, if that run has ended.

        Raises:
            RunConflictError: the id belongs to other work, or exists and if_exists="fail", or is live and
                if_exists="restart".
            RunEndedError: the run to which this attaches has ended, and messages were to be sent to it.
            NotSerializableError: the input can't be recorded.
            StoreUnavailableError: it couldn't be written; nothing was started.

        Example:
            >>> handle = await engine.start(research("tardigrades"), id="r-1")  # doctest: +SKIP
        """
        item = self._new(call, id=id, queue=queue, delay=delay, timeout=timeout, attributes=attributes)
        if messages:
            item = with_messages(item, messages, if_exists, self._settings.max_payload)
        await create_runs(self._open(), [item], if_exists)
        return self._handle(call, item.id)

    async def start_many(
        self,
        calls: Sequence[Call[R]],
        *,
        ids: Sequence[str] | None = None,
        queue: str | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
    ) -> list[Handle[R]]:
        """Start many runs in one commit. Arguments as for `start`; `ids` in the order of `calls`.

        Each run gets all of the `messages`.
        """
        for call in calls:
            call.mark_used()
        if ids is not None and len(ids) != len(calls):
            msg = f"start_many() got {len(calls)} calls and {len(ids)} ids"
            raise UsageError(msg)
        items = [
            self._new(
                call,
                id=ids[index] if ids else None,
                queue=queue,
                delay=delay,
                timeout=timeout,
                attributes=attributes,
            )
            for index, call in enumerate(calls)
        ]
        if messages:
            items = [with_messages(item, messages, if_exists, self._settings.max_payload) for item in items]
        await create_runs(self._open(), items, if_exists)
        return [self._handle(call, item.id) for call, item in zip(calls, items, strict=True)]

    async def run(
        self,
        call: Call[R],
        *,
        id: str | None = None,
        queue: str | None = None,
        delay: float | timedelta | None = None,
        timeout: float | timedelta | None = None,
        messages: Sequence[Message | tuple[str, Any]] = (),
        attributes: Mapping[str, AttributeValue] | None = None,
        if_exists: Literal["attach", "fail", "restart"] = "attach",
    ) -> R:
        """Start a run and wait for its result. With the id of an ended run: its result, no work redone.

        Raises:
            RunFailed, RunCancelled, RunTerminated: it ended without a result. And as `start`.
        """
        handle = await self.start(
            call,
            id=id,
            queue=queue,
            delay=delay,
            timeout=timeout,
            messages=messages,
            attributes=attributes,
            if_exists=if_exists,
        )
        return await handle.result()

    def get(self, id: str) -> Handle[Any]:
        """A handle to a run by its id, existing or not. Does no I/O."""
        return Handle(self._open(), id)

    @property
    def callbacks(self) -> Callbacks:
        """What runs wait for from outside: complete it, fail it, or keep it alive, by its token."""
        return Callbacks(self._open(), self._settings.max_payload)

    async def runs(
        self,
        *,
        status: str | Sequence[str] | None = None,
        workflow: str | None = None,
        since: datetime | None = None,
        text: str | None = None,
        attributes: Mapping[str, AttributeFilter] | None = None,
        unpatched: str | None = None,
        limit: int | None = 100,
    ) -> AsyncIterator[RunInfo]:
        """Runs, newest first.

        Args:
            status: only with this status, or any of these.
            workflow: only of this workflow: its name, or the last part of it.
            since: only created at or after this moment.
            text: only with this in their id.
            attributes: only where all of this holds: a name and the value that the attribute has (or contains,
                if it is a list), a comparison such as `{"total": (">=", 100)}`, or a list of comparisons.
            unpatched: only live ones that haven't taken the new branch of this change, see `patched`.
            limit: how many at most, None = all.
        """
        connection = self._open()
        conditions = conditions_of(attributes or {})
        statuses = (status,) if isinstance(status, str) else tuple(status or ())
        filter = RunFilter(
            statuses=statuses,
            workflow=workflow,
            text=text,
            since=None if since is None else earliest(since),
            attributes=conditions,
            unpatched=unpatched,
        )
        async for run in list_runs(connection.store, filter, limit):
            yield run

    async def workers(self) -> list[WorkerInfo]:
        """The workers that drive runs of this database, with the versions of their code."""
        return [worker_info(row) for row in await self._open().store.workers()]

    # -- starting -----------------------------------------------------------------------------------

    def _new(
        self,
        call: Call[Any],
        *,
        id: str | None,
        queue: str | None,
        delay: float | timedelta | None,
        timeout: float | timedelta | None,
        attributes: Mapping[str, AttributeValue] | None,
    ) -> NewRun:
        called = workflow_call(call)
        self._check()
        where = queue or self._settings.queues[0]
        worker = self._worker
        return new_run(
            id=uuid.uuid4().hex if id is None else id,
            workflow=called.name,
            input=called.input(self._settings.max_payload),
            queue=where,
            now=self._settings.clock(),
            delay=0.0 if delay is None else seconds(delay, "delay"),
            timeout=None if timeout is None else seconds(timeout, "timeout"),
            owner=worker.id if worker is not None and worker.takes(called.name, where) else None,
            attributes=attributes_of(attributes or {}),
        )

    def _handle(self, call: Call[R], id: str) -> Handle[R]:
        assert isinstance(call, WorkflowCall)
        return Handle(self._open(), id, call.definition.result.decode)
