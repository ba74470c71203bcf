"""Gathers appends into group commits, several of them on their way at once.

While as many batches as allowed are on their way, further appends wait and become one batch together. Two appends
of one run never travel at the same time; the second waits, so that they arrive in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from perdure.storage.chain import surplus
from perdure.storage.changes import Change, concerns_others, ends_alone, plain
from perdure.storage.postgres import appends
from perdure.storage.postgres.attempts import Attempts
from perdure.storage.postgres.express import Express
from perdure.storage.postgres.trouble import PlaceTakenError
from perdure.storage.records import Append, Appended, Stale

#: Batches on their way at once. More only split the work into smaller commits.
IN_FLIGHT = 3
#: What is less than this waits for the batches on their way, and goes together with what follows from them: one batch
#: costs the server and this process less than two, and whoever has travelled together goes on together.
ALONGSIDE = 100
#: A lone append does so if they are as many as this. Beside fewer the quick way costs less.
CROWD = 10
#: A batch that has been on its way for so many seconds isn't waited for: something holds it up.
GATHERING = 0.2
_APPENDS_MAX = 1000
_BYTES_MAX = 8 * 1024 * 1024

Result = Appended | Stale


class _Ticket:
    """The appends of one call, and how many of them have no answer yet."""

    __slots__ = ("future", "left", "results")

    def __init__(self, future: asyncio.Future[list[Result]], number: int) -> None:
        self.future = future
        self.left = number
        self.results: list[Result | None] = [None] * number

    def settle(self, place: int, result: Result) -> None:
        """One of them has its answer."""
        self.results[place] = result
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(self.results)  # type: ignore[arg-type]


#: Appends that travel together, each with its place in its call.
Load: TypeAlias = list[tuple[Append, _Ticket, int]]


class Batches:
    """The way of appends to the database.

    Args:
        changed: told of what is durable and may concern others.

    Attributes:
        commits: batches made durable so far; tests count them.
    """

    def __init__(
        self,
        attempts: Attempts,
        express: Express,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[Change], None],
    ) -> None:
        self._attempts = attempts
        self._express = express
        self._loop = loop
        self._changed = changed
        self._waiting: deque[tuple[Append, _Ticket, int]] = deque()
        self._travelling: dict[int, _Ticket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # until what follows from them is here: when they left, and how many appends they are
        self._awaited: dict[asyncio.Task[None], tuple[float, int]] = {}
        self._lone: Load | None = None  # on the quick way
        self._idle: asyncio.Future[None] | None = None
        self._later: asyncio.TimerHandle | None = None
        self.commits = 0

    def submit(self, batch: Sequence[Append]) -> asyncio.Future[list[Result]]:
        """The answers, in order, once all of it is durable."""
        future: asyncio.Future[list[Result]] = self._loop.create_future()
        ticket = _Ticket(future, len(batch))
        if not batch:
            future.set_result([])
        if len(batch) == 1 and not self._waiting and self._goes_alone((batch[0], ticket, 0)):
            return future
        for place, append in enumerate(batch):
            self._waiting.append((append, ticket, place))
        self._send()
        return future

    async def arrived(self, runs: Collection[int]) -> None:
        """Wait for what was submitted so far for these runs, however it ends."""
        tickets = [self._travelling[run] for run in runs if run in self._travelling]
        tickets += [ticket for append, ticket, _ in self._waiting if append.run in runs]
        if tickets:
            await asyncio.wait({ticket.future for ticket in tickets})

    async def drain(self) -> None:
        """Wait for everything submitted."""
        while self._waiting or self._tasks or self._lone:
            self._send()
            if self._lone:
                self._idle = self._loop.create_future()
                await self._idle
            elif self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0)  # it goes with what follows from the batch that has just arrived

    def _send(self) -> None:
        if len(self._waiting) == 1 and self._goes_alone(self._waiting[0]):
            self._waiting.popleft()
        while self._waiting and len(self._tasks) < IN_FLIGHT:
            if len(self._waiting) < ALONGSIDE and self._gathers():
                return
            load = self._next_load()
            if not load:
                return
            self._send_off(load)

    def _gathers(self) -> bool:
        """Whether what waits is to become more first."""
        if not self._crowd():
            return False
        if self._later is None:
            newest = max(left for left, _ in self._awaited.values())
            self._later = self._loop.call_at(newest + GATHERING, self._gathered)
        return True

    def _crowd(self) -> int:
        """How many appends are on their way, or have just arrived, that aren't held up."""
        late = self._loop.time() - GATHERING
        return sum(size for left, size in self._awaited.values() if left > late)

    def _gathered(self) -> None:
        self._later = None
        self._send()

    def _goes_alone(self, item: tuple[Append, _Ticket, int]) -> bool:
        """Send an append the quick way, if that is free, it may go, and no crowd is on its way that it can join."""
        append, ticket, _ = item
        if (
            self._lone is None
            and (not self._awaited or self._crowd() < CROWD)
            and append.run not in self._travelling
            and plain(append)
            and self._express.send(append, self._lone_arrived)
        ):
            self._lone = [item]
            self._travelling[append.run] = ticket
            return True
        return False

    def _send_off(self, load: Load) -> None:
        task = self._loop.create_task(self._travel(load))
        self._tasks.add(task)
        self._awaited[task] = self._loop.time(), len(load)
        task.add_done_callback(self._arrived)

    def _lone_arrived(self, passed: bool) -> None:
        load, self._lone = self._lone, None
        assert load is not None
        if passed:
            ((append, ticket, place),) = load
            del self._travelling[append.run]
            self.commits += 1
            ticket.settle(place, Appended(append.expected + 1))
            self._send()
        else:
            self._send_off(load)
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _next_load(self) -> Load:
        """What travels next: appends to different runs, none of which is on its way already."""
        load: Load = []
        later: Load = []
        size = 0
        held: set[int] = set()
        while self._waiting and len(load) < _APPENDS_MAX and size < _BYTES_MAX:
            item = self._waiting.popleft()
            run = item[0].run
            if run in self._travelling or run in held:
                later.append(item)
                held.add(run)  # what follows for this run stays behind it
                continue
            load.append(item)
            held.add(run)
            size += sum(map(len, item[0].events))
        self._waiting.extendleft(reversed(later))
        self._travelling.update((append.run, ticket) for append, ticket, _ in load)
        return load

    async def _travel(self, load: Load) -> None:
        batch = [append for append, _, _ in load]
        try:
            results = await self._commit(batch)
        except BaseException as error:  # noqa: BLE001 - whoever submitted it is told
            self._failed(load, error)
        else:
            self.commits += 1
            for (_, ticket, place), result in zip(load, results, strict=True):
                ticket.settle(place, result)
        finally:
            for append in batch:
                del self._travelling[append.run]

    async def _commit(self, batch: Sequence[Append]) -> list[Result]:
        try:
            return await self._commit_together(batch)
        except PlaceTakenError:
            if len(batch) == 1:
                return [Stale(batch[0].expected, batch[0].epoch, surplus(batch[0].expected))]
        return [result for append in batch for result in await self._commit([append])]

    async def _commit_together(self, batch: Sequence[Append]) -> list[Result]:
        if all(map(plain, batch)):
            passed = await self._attempts.alone("append_many", appends.bindings(batch))
            if len(passed) == len(batch):
                return [Appended(append.expected + len(append.events)) for append in batch]
            return await self._attempts.read(appends.answers, batch, passed)
        if all(plain(append) or ends_alone(append) for append in batch):
            return await self._end(batch)
        answers = await self._attempts.write(appends.apply, batch, marked=False)
        if any(map(concerns_others, batch)):
            self._changed(Change.ANYTHING)
        return answers

    async def _end(self, batch: Sequence[Append]) -> list[Result]:
        """Ends of runs that have mail or live children don't pass like this, they have consequences after all."""
        passed = {run for (run,) in await self._attempts.alone("end_many", appends.ending_bindings(batch))}
        left = [append for append in batch if append.run not in passed]
        told: dict[int, Result] = {}
        if left:
            answers = await self._attempts.write(appends.apply, left, marked=False)
            told = dict(zip((append.run for append in left), answers, strict=True))
        self._changed(Change.ANYTHING if left else Change.ENDS)
        return [told.get(append.run) or Appended(append.expected + len(append.events)) for append in batch]

    def _failed(self, load: Load, error: BaseException) -> None:
        """Some of a call's other appends may have come through: repeating all of it is the caller's, and safe."""
        for _, ticket, _ in load:
            if not ticket.future.done():
                if isinstance(error, asyncio.CancelledError):
                    ticket.future.cancel()
                else:
                    ticket.future.set_exception(error)

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._loop.call_soon(self._followed, task)

    def _followed(self, task: asyncio.Task[None]) -> None:
        """What follows from a batch is here a turn after the answers, and goes together with what has waited."""
        del self._awaited[task]
        self._send()
