"""Whether a process is alive, and whether it can do its work: two questions with different consequences.

*Live* is asked by whoever ends a process that hangs. That the event loop turns is shown by there being an answer at
all. Besides, a file's reads and writes must come to an end: if one doesn't for a minute, a new process may do better,
and so it does after the file was replaced under this one. A database server that is away is no reason: a new process
would find it away, too, and all that is in memory here would have to be replayed.

*Ready* is asked by whoever sends work or counts who is there: the database answers, and the worker is signed up, with a
lease, and isn't about to leave.

What is told names no host, no path and no error's text: anybody who can reach a probe's port may read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from perdure.errors import DatabaseMovedError, StoreError

#: How long a read or a sign of life may take before a file's process counts as hanging, in seconds.
STUCK_AFTER: Final = 60.0
#: How long somebody who asks waits for the database, in seconds.
ANSWER_WITHIN: Final = 2.0

STARTING: Final = "it is starting"
STOPPING: Final = "it is stopping"


class Health(msgspec.Struct, frozen=True):
    """How a process is.

    Attributes:
        live: nothing hangs; if something does, ending the process helps.
        ready: it can do its work now.
        reasons: why it isn't ready or live, for people.

    Example:
        >>> (await engine.health()).ready  # doctest: +SKIP
        True
    """

    live: bool
    ready: bool
    reasons: Sequence[str] = ()


class Store(Protocol):
    """What is asked something, to see whether it answers."""

    async def crowd(self) -> int: ...


class Member(Protocol):
    """A worker, as it stands with the others."""

    def unfit(self) -> str | None: ...
    def waiting(self) -> float: ...


class Examiner:
    """Looks after one engine.

    Args:
        file: the database is a file, so that whatever is asked of it ends soon, or never.
    """

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, *, file: bool) -> None:
        self._store = store
        self._loop = loop
        self._file = file
        self._look: asyncio.Task[bool] | None = None
        self._moved = False
        self._since = 0.0  # the event loop's time at which the look began

    async def examine(self, worker: Member | None) -> Health:
        """How it is. Takes `ANSWER_WITHIN` seconds at most."""
        look = self._looking()
        await asyncio.wait([look], timeout=ANSWER_WITHIN)
        reasons: list[str] = []
        answered = look.done() and look.result()
        if not answered:
            reasons.append("the database doesn't answer")
        unfit = worker.unfit() if worker is not None else None
        if unfit is not None:
            reasons.append(unfit)
        waiting = max(
            0.0 if look.done() else self._loop.time() - self._since,
            worker.waiting() if worker is not None else 0.0,
        )
        stuck = self._file and waiting > STUCK_AFTER
        if stuck:
            reasons.append(f"the database's file has kept it waiting for {waiting:.0f} s")
        if self._moved:
            reasons.append("the database's file was moved away or replaced")
        return Health(not (stuck or self._moved), not reasons, reasons)

    def close(self) -> None:
        """Look no more."""
        if self._look is not None:
            self._look.cancel()

    def _looking(self) -> asyncio.Task[bool]:
        """The look that is under way; those who ask meanwhile share it."""
        if self._look is None or self._look.done():
            self._since = self._loop.time()
            self._look = self._loop.create_task(self._answers())
        return self._look

    async def _answers(self) -> bool:
        self._moved = False
        try:
            await self._store.crowd()
        except StoreError as error:
            self._moved = isinstance(error, DatabaseMovedError)
            return False
        return True
