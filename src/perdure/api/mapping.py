"""`map`: many items through one function, a bounded number of them at a time.

One task drives the map. It takes items one by one from their iterable, as there is room, and gives each a task
of its own; so however many items there are, only `concurrency` of them are anything more than a result. An
item's operations are named by its index, whatever order the items end in.

How items end is looked at one item after another, and the first look that decides the map stays: what ends
while the rest is being cancelled is kept in the result, and changes nothing else.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from perdure.core.limits import Limits
from perdure.core.loop import WorkflowLoop
from perdure.errors import MapFailed, UsageError

T = TypeVar("T")
R = TypeVar("R")

#: How an item of a map ended: `cancelled` after it had begun, `skipped` before.
ItemStatus: TypeAlias = Literal["succeeded", "failed", "cancelled", "skipped"]

#: Items of a map that are under way at once, unless it says otherwise.
CONCURRENCY = 100

_ERRORS_SHOWN = 3


@dataclass(slots=True)
class MapResult(Generic[R]):
    """What came of a map, item by item in the order of the items. Iterates over the results.

    Attributes:
        results: each item's result, None where it has none.
        errors: the errors of the items that failed, by index.
        statuses: how each item ended: "succeeded", "failed", "cancelled" (it had begun) or "skipped".
        succeeded: how many succeeded.
        failed: how many failed.

    Example:
        >>> done = MapResult(["a", None], {1: ValueError("b")}, ["succeeded", "failed"], 1, 1)
        >>> list(done), done.statuses.count("failed")
        (['a', None], 1)
    """

    results: list[R | None]
    errors: dict[int, BaseException]
    statuses: list[ItemStatus]
    succeeded: int
    failed: int

    def __iter__(self) -> Iterator[R | None]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f"<MapResult of {len(self.results)} items: {self.succeeded} succeeded, {self.failed} failed>"


async def map(
    fn: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    concurrency: int | None = None,
    min_successful: int | None = None,
    max_failures: int | None = None,
    max_failure_ratio: float | None = None,
) -> MapResult[R]:
    """Call a function with each item, a bounded number of items at a time, and collect what comes of it.

    With no limit given every item must succeed: the first failure cancels the rest. After a crash the map goes
    on where it stood. Outside of runs it works as plain asyncio code.

    Args:
        fn: a step, a workflow (each item is then a child run), or an async function that awaits such calls.
        items: what to call it with; taken one by one as there is room, so a generator does. A set has no order
            that replays, and is refused.
        concurrency: how many items are under way at once, 100 by default.
        min_successful: end as soon as so many items have succeeded; what is under way is cancelled, what
            hasn't begun is skipped.
        max_failures: so many items may fail.
        max_failure_ratio: such a share of all items may fail, from 0.0 to 1.0. While it isn't known how many
            items there are (a generator), this is looked at when the last has been taken.

    Returns:
        The results in the order of the items, with statuses and errors.

    Raises:
        MapFailed: more items failed than the limits tolerate; its `result` is the MapResult.
        UsageError: an argument is out of range, or isn't what it should be.

    Example:
        >>> pages = await perdure.map(fetch, urls, concurrency=20, max_failure_ratio=0.1)  # doctest: +SKIP
        >>> [page for page in pages if page is not None]  # doctest: +SKIP
    """
    limits = Limits(
        min_successful=min_successful, max_failures=max_failures, max_failure_ratio=max_failure_ratio
    )
    window = CONCURRENCY if concurrency is None else concurrency
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        msg = f"map(concurrency={concurrency!r}): give a whole number >= 1, or leave it out"
        raise UsageError(msg)
    _check(fn, items)
    return await _Mapping(fn, items, window, limits).run()


def _check(fn: Any, items: Any) -> None:
    if not callable(fn):
        hint = " Leave out the arguments: map() calls it for each item." if inspect.isawaitable(fn) else ""
        if inspect.iscoroutine(fn):
            fn.close()
        msg = f"map() takes a step, a workflow or an async function, not {fn!r}.{hint}"
        raise UsageError(msg)
    if isinstance(items, set | frozenset):
        msg = (
            "map() can't take a set: it has no order that replays. Give it a list, for example sorted(items)"
        )
        raise UsageError(msg)
    if isinstance(items, AsyncIterable) or not isinstance(items, Iterable):
        msg = (
            f"map() takes a list or another plain iterable of items, not {items!r}: have a step collect them"
        )
        raise UsageError(msg)


class _MisuseError(Exception):
    """The function isn't one for a map at all: no limit tolerates that."""


class _Mapping(Generic[T, R]):
    """One map under way."""

    def __init__(
        self, fn: Callable[[T], Awaitable[R]], items: Iterable[T], window: int, limits: Limits
    ) -> None:
        self._fn = fn
        self._items = iter(items)
        self._total = len(items) if isinstance(items, Sized) else None
        self._window = window
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._scope = self._loop.scope().child() if isinstance(self._loop, WorkflowLoop) else None
        self._result: MapResult[R] = MapResult([], {}, [], 0, 0)
        self._open: dict[int, asyncio.Task[R]] = {}
        self._drained = False  # the last item was taken
        self._stopped = False  # no more items are taken, and those under way are cancelled
        self._why: str | None = None  # the map has failed
        self._error: BaseException | None = None  # the first item's that failed
        self._waiter: asyncio.Future[None] | None = None

    async def run(self) -> MapResult[R]:
        interrupted: BaseException | None = None
        self._decide()
        while True:
            try:
                self._begin_more()
                if not self._open:
                    break
                await self._one_ends()
            # The iterable is user code; and whoever waits for the map may give up. All is tidied up first.
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                interrupted = interrupted or error
                self._stop()
        if interrupted is not None:
            raise interrupted
        return self._outcome()

    # -- items begin --------------------------------------------------------------------------------

    def _begin_more(self) -> None:
        """Begin items while there is room."""
        while not (self._stopped or self._drained) and len(self._open) < self._window:
            try:
                item = next(self._items)
            except StopIteration:
                self._drained = True
                self._total = len(self._result.results)
                self._decide()
            else:
                self._begin(item)

    def _begin(self, item: T) -> None:
        result = self._result
        index = len(result.results)
        result.results.append(None)
        result.statuses.append("cancelled")  # unless it ends by itself
        body = self._call(item)
        if self._scope is None:
            task = self._loop.create_task(body)
        else:
            assert isinstance(self._loop, WorkflowLoop)
            task = self._loop.create_scoped(body, self._scope.item(index))
        self._open[index] = task
        task.add_done_callback(partial(self._ended, index))

    async def _call(self, item: T) -> R:
        call = self._fn(item)
        if not inspect.isawaitable(call):
            msg = (
                f"map() takes a step, a workflow or an async function; {self._fn!r} returned "
                f"{type(call).__qualname__}, which can't be awaited. Decorate it with @step"
            )
            raise _MisuseError(msg)
        return await call

    # -- items end ----------------------------------------------------------------------------------

    async def _one_ends(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _ended(self, index: int, task: asyncio.Task[R]) -> None:
        del self._open[index]
        result = self._result
        if task.cancelled():
            if not self._stopped:
                self._failed(index, asyncio.CancelledError("the item cancelled itself"))
        elif (error := task.exception()) is not None:
            self._failed(index, error)
        else:
            result.results[index] = task.result()
            result.statuses[index] = "succeeded"
            result.succeeded += 1
        self._decide()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _failed(self, index: int, error: BaseException) -> None:
        self._result.statuses[index] = "failed"
        self._result.errors[index] = error
        self._result.failed += 1
        if self._error is None or (isinstance(error, _MisuseError) and not self._stopped):
            self._error = error

    def _decide(self) -> None:
        """Look whether the rest still matters."""
        result = self._result
        if self._stopped:
            return
        self._why = self._limits.broken(succeeded=result.succeeded, failed=result.failed, total=self._total)
        if self._why or self._limits.enough(result.succeeded) or isinstance(self._error, _MisuseError):
            self._stop()

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            for task in list(self._open.values()):
                task.cancel()

    def _outcome(self) -> MapResult[R]:
        result = self._result
        if isinstance(self._error, _MisuseError):
            raise UsageError(str(self._error)) from None
        left = 0 if self._total is None else self._total - len(result.results)
        result.results += [None] * left
        result.statuses.extend("skipped" for _ in range(left))
        if self._why is None:
            return result
        told = "; ".join(
            f"item {index}: {type(error).__name__}: {error}"
            for index, error in list(result.errors.items())[:_ERRORS_SHOWN]
        )
        more = "; ..." if result.failed > _ERRORS_SHOWN else ""
        raise MapFailed(f"{self._why}. {told}{more}".rstrip(" ."), result=result) from self._error
