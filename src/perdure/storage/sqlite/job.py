"""What the event loop hands to the store's threads, and how it gets answers back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from perdure.storage.records import Append


class Job:
    """A verb to run on a thread's connection, and the future that waits for its answer.

    Appends are the hot path: they have no `verb`, and the batch itself as `work`.
    """

    __slots__ = ("future", "verb", "work")

    def __init__(
        self, future: asyncio.Future[Any], verb: Callable[..., Any] | None, work: Sequence[Any]
    ) -> None:
        self.future: Final = future
        self.verb: Final = verb
        self.work: Final[Sequence[Any]] = work

    @property
    def appends(self) -> Sequence[Append]:
        return self.work


class Failed:
    """An answer that is to be raised."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error: Final = error


def answer(loop: asyncio.AbstractEventLoop, jobs: Sequence[Job], answers: Sequence[Any]) -> None:
    """From a thread: settle the futures of all these jobs with one wake-up of the loop."""
    # The loop may be gone if the program ends without closing the store; nobody waits then.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(settle, jobs, answers)


def settle(jobs: Sequence[Job], answers: Sequence[Any]) -> None:
    """In the loop: give the futures of these jobs their answers."""
    for job, value in zip(jobs, answers, strict=True):
        future = job.future
        if future.done():  # the caller was cancelled meanwhile
            continue
        if type(value) is Failed:
            future.set_exception(value.error)
        else:
            future.set_result(value)
