"""One lane for what clients write: in order, and everything that gathers meanwhile in one transaction.

So messages that a sender doesn't wait for keep their order, and a thousand starts at once are a few commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from perdure.errors import StoreError, StoreUnavailableError
from perdure.storage.postgres.attempts import Attempts
from perdure.storage.postgres.database import Database

R = TypeVar("R")

_JOBS_MAX = 500

Verb = Callable[..., Awaitable[Any]]


class _Job:
    __slots__ = ("args", "future", "verb")

    def __init__(self, verb: Verb, args: Sequence[Any], future: asyncio.Future[Any]) -> None:
        self.verb = verb
        self.args = args
        self.future = future


class Lane:
    """The way of client's writes to the database.

    Args:
        changed: called after each commit.
    """

    def __init__(
        self, attempts: Attempts, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
    ) -> None:
        self._attempts = attempts
        self._loop = loop
        self._changed = changed
        self._waiting: list[_Job] = []
        self._task: asyncio.Task[None] | None = None

    async def write(self, verb: Callable[..., Awaitable[R]], *args: Any) -> R:
        """What the verb answers. It happens, whoever stops waiting for it.

        Args:
            args: of the verb. If it concerns one run, this one's id comes first.
        """
        job = _Job(verb, args, self._loop.create_future())
        self._waiting.append(job)
        if self._task is None:
            self._task = self._loop.create_task(self._travel())
        return await job.future  # type: ignore[no-any-return]

    async def drain(self) -> None:
        """Wait for everything submitted."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _travel(self) -> None:
        try:
            while self._waiting:
                jobs, self._waiting = self._waiting[:_JOBS_MAX], self._waiting[_JOBS_MAX:]
                await self._commit(jobs)
                self._changed()
        finally:
            self._task = None

    async def _commit(self, jobs: Sequence[_Job]) -> None:
        try:
            answers = await self._attempts.write(_do, jobs)
        except StoreUnavailableError as error:
            _fail(jobs, error)
        except Exception as error:  # noqa: BLE001 - one job is at fault; whose it is gets it
            if len(jobs) == 1:
                _fail(jobs, error)
            else:
                for job in jobs:
                    await self._commit([job])
        else:
            for job, answer in zip(jobs, answers, strict=True):
                if not job.future.done():
                    job.future.set_result(answer)


async def _do(db: Database, jobs: Sequence[_Job]) -> list[Any]:
    """Several jobs lock the runs they concern in the order in which everybody does, not in their own."""
    concerned = {job.args[0] for job in jobs if job.args and isinstance(job.args[0], str)}
    if len(concerned) > 1:
        await db.rows("lock_all_newest", ids=list(concerned))
    return [await job.verb(db, *job.args) for job in jobs]


def _fail(jobs: Sequence[_Job], error: Exception) -> None:
    for job in jobs:
        if not job.future.done():
            job.future.set_exception(type(error)(str(error)) if isinstance(error, StoreError) else error)
