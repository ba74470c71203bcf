"""The engine: opens a database, drives runs there, and closes.

starter.py starts runs there; doors.py looks at them and leads to what else an engine has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from perdure.api.besides import Besides
from perdure.api.blobs import keep_collecting, with_blobs
from perdure.api.call import current_machine
from perdure.api.connection import Connection
from perdure.api.doors import Doors
from perdure.api.erasing import Erasing
from perdure.api.keeping import Keeping
from perdure.api.namespacing import Namespaces
from perdure.api.outlook import Outlook
from perdure.api.quotas import Quoted
from perdure.api.redacting import redactions
from perdure.api.sealing import store_for_clients, with_codecs
from perdure.api.spending import Spending
from perdure.api.starter import Starter
from perdure.codec.redaction import Redact, force, lift
from perdure.codec.sealing.chain import Codec
from perdure.core.bounds import PAYLOAD_MAX, Bounds
from perdure.core.namespaces import check_namespace
from perdure.core.retry import seconds
from perdure.errors import ConfigurationError, EngineClosedError, UsageError
from perdure.runtime.budgets import Budget, define_budgets, terms_of
from perdure.runtime.definitions import defined_workflows
from perdure.runtime.health import STARTING, STOPPING, Examiner, Health
from perdure.runtime.inquiry import Inquiry
from perdure.runtime.liveness import worker_name
from perdure.runtime.observing import Observer, Telemetry, Watched, observer_of
from perdure.runtime.queues import Queue, define_queues, queue_name
from perdure.runtime.results import Results
from perdure.runtime.retention import Retention, rules_given
from perdure.runtime.settings import KEEP_PUBLICATIONS, Settings, processors
from perdure.runtime.stepcontext import refuse_in_script
from perdure.storage.changes import Change
from perdure.storage.protocol import Store
from perdure.storage.urls import store_for, url_of_environment

if TYPE_CHECKING:
    from perdure.runtime.worker import Worker
    from perdure.storage.blobs.collecting import Collected
    from perdure.storage.blobs.config import Blobs

_IN_WORKFLOW = (
    "an engine was used in workflow code, which can't be replayed. Await the call itself, or start it with "
    "`await perdure.start(call)`: it becomes a child run"
)


class Engine(Besides, Doors, Erasing, Keeping, Namespaces, Outlook, Quoted, Spending, Starter):
    """Durable execution on one database. An async context manager; entering it recovers interrupted runs.

    Args:
        url: `sqlite:///agents.db`, or `memory:` for tests. By default the environment's PERDURE_URL, or what is
            in the file that PERDURE_URL_FILE names.
        worker: drive runs in this process. False makes a client only: it starts runs, others drive them.
        queues: the queues its worker serves, by name or as Queue objects; the first one is the default for runs
            started here.
        concurrency: how many steps execute at once.
        threads: how many of them may be sync steps, each in a thread.
        processes: how many of them may be steps with process=True; by default one for each processor.
        evict_after: seconds after which a run that only waits leaves memory.
        max_resident: how many runs are in memory at once, besides the steps that others have sent here.
        lease: seconds after which a worker that isn't heard of counts as dead. One that died on the same
            host is noticed within a second.
        max_recoveries: a run that takes its worker down more often than this in a row is blocked, if it was the only
            one there at last.
        turn_limit: seconds workflow code may run without awaiting; None = for ever (for debuggers).
        max_payload: largest encoded input or result, in bytes.
        keep_publications: how long published events are kept for runs that look back, in seconds; None = for ever.
        grace: seconds that executing steps have to finish when the engine closes.
        budgets: how much all runs in the database may spend.
        name: the worker's name in listings.
        version: what you call the version of this program's code, see `workflow(pinned=True)`.
        telemetry: what observes this engine, such as `perdure.integrations.opentelemetry.Tracing()`; besides what
            observes all engines of the process, see `instrument()` there.
        redact: functions from text to text, such as `perdure.redactions.common`, for what people get to see: errors
            before they are recorded, logs, and events where they are shown. By default the environment's PERDURE_REDACT
            names them. They are in force in the whole process while the engine is open. Results and messages are
            recorded as they are, since a replay needs them.
        blobs: where events of more than 256 kB are kept, such as `Blobs("s3://bucket/blobs")`; by default in the
            database. PERDURE_BLOBS names a place for programs and commands that give none.
        retention: how long runs are kept after their end, by workflow and status; by default for ever. See
            `Retention`.
        codec: what goes over all payloads on their way to the database, in this order: `perdure.Compression`,
            `perdure.Encryption`, or codecs of your own. By default encryption with the keys in the environment's
            PERDURE_KEYS, if that is set; `()` for none.
        bounds: how long the histories of runs may become that are driven here.
        namespace: bind it to this namespace: it starts and sees runs of no other, see `Engine.namespace`. Its worker
            drives the runs of all namespaces.

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
        queues: Sequence[str | Queue] = ("default",),
        concurrency: int = 1000,
        threads: int = 32,
        processes: int | None = None,
        evict_after: float = 60.0,
        max_resident: int = 10_000,
        lease: float = 15.0,
        max_recoveries: int = 10,
        turn_limit: float | None = 2.0,
        max_payload: int = PAYLOAD_MAX,
        keep_publications: float | timedelta | None = KEEP_PUBLICATIONS,
        grace: float = 5.0,
        budgets: Sequence[Budget] = (),
        name: str | None = None,
        version: str | None = None,
        telemetry: Telemetry | Sequence[Telemetry] = (),
        redact: Redact | Sequence[Redact] | None = None,
        blobs: Blobs | str | None = None,
        retention: Sequence[Retention] = (),
        codec: Codec | Sequence[Codec] | None = None,
        bounds: Bounds | None = None,
        namespace: str | None = None,
    ) -> None:
        if current_machine() is not None:
            raise UsageError(_IN_WORKFLOW)
        refuse_in_script()
        self.url = _chosen(url)
        self._drives = worker
        self._settings = Settings(
            queues=queues if isinstance(queues, str) else tuple(map(queue_name, queues)),
            concurrency=concurrency,
            threads=threads,
            processes=processors() if processes is None else processes,
            evict_after=evict_after,
            max_resident=max_resident,
            lease=lease,
            max_recoveries=max_recoveries,
            turn_limit=turn_limit,
            max_payload=max_payload,
            keep_publications=None
            if keep_publications is None
            else seconds(keep_publications, "keep_publications"),
            grace=grace,
            name=name,
            version=version or "",
            telemetry=tuple(telemetry) if isinstance(telemetry, Sequence) else (telemetry,),
            retention=rules_given(retention),
            bounds=bounds or Bounds(),
        )
        self._budgets = terms_of(budgets, name="all", workflow=None)
        self._redact = redactions(redact)
        self._blobs, below = with_blobs(store_for(self.url), blobs)
        self._store = with_codecs(below, codec)
        self._bound = None if namespace is None else check_namespace(namespace)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None
        self._worker: Worker | None = None
        self._observer: Observer | None = None
        self._poll: asyncio.Task[None] | None = None
        self._collecting: asyncio.Task[None] | None = None
        self._examiner: Examiner | None = None

    # -- life ---------------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        if self._loop is not None:
            msg = "this engine was entered already: make a new one"
            raise UsageError(msg)
        self._loop = asyncio.get_running_loop()
        connection = Connection(self._store, Results(self._store, self._loop), self._settings.clock)
        connection.check = self._check
        connection.settings = self._settings
        connection.max_payload = self._settings.max_payload
        await self._store.open(self._changed)
        force(self._redact)
        try:
            connection.store = await store_for_clients(self._store)
            connection.inquiry = Inquiry(connection.store, self._loop, self._settings, connection.nudge)
            self._connection = self._base = connection
            self._observer = connection.observer = observer_of(self._watched(), self._settings.telemetry)
            await define_queues(self._store, self._settings.clock)
            of_workflows = [terms for workflow in defined_workflows() for terms in workflow.budgets]
            await define_budgets(self._store, [*self._budgets, *of_workflows], self._settings.clock)
            if self._drives:
                from perdure.runtime.worker import Worker  # clients don't need it, nor all that it brings

                worker = Worker(
                    self._store,
                    self._loop,
                    self._settings,
                    connection.results,
                    connection.inquiry,
                    connection.listeners,
                    self._observer,
                )
                await worker.start()
                self._worker = connection.worker = worker
                connection.inquiry.serve(worker)
            else:
                self._poll = self._loop.create_task(self._poll_results())
            if self._drives and self._blobs is not None:
                self._collecting = self._loop.create_task(keep_collecting(self._blobs))
            self._examiner = Examiner(self._store, self._loop, file=self.url.startswith("sqlite:"))
            if self._bound is not None:
                self._connection = self.namespace(self._bound)._open()
        except BaseException:
            lift(self._redact)
            self._connection = self._base = None
            if self._observer is not None:
                await self._observer.close()
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
        connection, self._connection, self._base = self._base, None, None
        if connection is None:
            return
        try:
            for task in (self._poll, self._collecting):
                if task is not None:
                    task.cancel()
            if self._worker is not None:
                await self._worker.close(self._settings.grace)
        finally:
            error = EngineClosedError("the engine was closed; the run goes on when one is open")
            for view in self._views.values():
                await view._connection.close(error)
            await connection.close(error)
            if self._examiner is not None:
                self._examiner.close()
            if self._observer is not None:
                await self._observer.close()
            await self._store.close()
            lift(self._redact)

    async def collect_blobs(self, *, grace: float | None = None) -> Collected:
        """Remove blobs that no event refers to. Engines with a worker do so by themselves, once in an hour.

        Args:
            grace: how old they have to be, in seconds; by default that of the engine's blobs.

        Raises:
            UsageError: the engine has no blobs.
        """
        self._check()
        if self._blobs is None:
            msg = "the engine has no blobs: give it some, as in Engine(blobs=perdure.Blobs(...))"
            raise UsageError(msg)
        from perdure.storage.blobs.collecting import collect

        return await collect(self._blobs, grace=grace)

    async def health(self) -> Health:
        """Whether nothing hangs here, and whether it can work now; for probes. Takes two seconds at most.

        To be asked at any time, before the engine is open and while it closes, too.
        """
        if self._connection is None or self._examiner is None:
            return Health(True, False, (STARTING if self._examiner is None else STOPPING,))
        self._check()
        return await self._examiner.examine(None if self._worker is None else self._worker.member)

    def _watched(self) -> Watched:
        settings = self._settings
        assert self._loop is not None
        return Watched(
            store=self._store,
            loop=self._loop,
            clock=settings.clock,
            name=worker_name(settings.name),
            version=settings.version,
            queues=settings.queues,
            drives=self._drives,
            load=lambda: (0, 0) if self._worker is None else self._worker.load(),
        )

    @property
    def store(self) -> Store:
        """Where its runs are kept; for tools, not for programs."""
        return self._store

    def _changed(self, change: Change) -> None:
        if self._base is not None:
            self._base.changed(change)

    async def _poll_results(self) -> None:
        """A client without a worker asks now and then, in case a hint was lost."""
        while self._base is not None:
            await asyncio.sleep(1.0)
            self._base.results.check_soon()
            self._base.inquiry.check_soon()

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


def _chosen(url: str | None) -> str:
    """The database that is meant by what an engine is given."""
    if chosen := url or url_of_environment():
        return chosen
    msg = 'no database: pass one, as in Engine("sqlite:///agents.db"), or set PERDURE_URL'
    raise ConfigurationError(msg)
