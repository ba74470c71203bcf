"""Streams: what a store promises about the items that runs put out while they go on.

A stream belongs to a run id, so it goes on in the run's next generation and stays after its end. Its items
have offsets from 1, without gaps, in the order in which they were committed. Items of steps tell which step
of which run put them out: when that step is tried again, a *mark* takes back all of its items before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure.storage.effects import Effect


class Emit(Effect, frozen=True, gc=False):
    """With an append: one item of the workflow's own into a stream."""

    stream: str
    data: bytes


class Supersede(Effect, frozen=True, gc=False):
    """With an append: take back what a step has put out so far, in every stream that holds some of it."""

    step: str


class Settle(Effect, frozen=True, gc=False):
    """With an append: the step has its result, so what it has put out stays."""

    step: str


class StepItems(msgspec.Struct, frozen=True, gc=False):
    """Items of one attempt of one step into one stream, in order.

    Attributes:
        run: key of the run that the driver drives, in this epoch.
        of: key of the run whose step it is and whose stream, if that is another one; it must be live.
        items: the encoded items.
        now: wall-clock seconds.
    """

    run: int
    epoch: int
    step: str
    attempt: int
    stream: str
    items: Sequence[bytes]
    now: float
    of: int | None = None


class StreamRow(msgspec.Struct, frozen=True, gc=False):
    """An item, or a mark.

    Attributes:
        at: when it was committed, wall-clock seconds.
        data: the encoded item, None for a mark.
        step, attempt: who put it out; None for the workflow. A mark's attempt is the last one it takes back.
        superseded: a later mark has taken it back.
        since: of a mark, the offset of the first item that it takes back; else 0.
    """

    offset: int
    at: float
    data: bytes | None
    step: str | None
    attempt: int | None
    superseded: bool
    since: int


class StreamPage(msgspec.Struct, frozen=True, gc=False):
    """Items of a stream, and whether the run had ended when they were read (then there will be no more)."""

    rows: Sequence[StreamRow]
    ended: bool


class Streams(Protocol):
    """The part of a store that keeps streams. Every verb is one transaction."""

    async def emit(self, batch: Sequence[StepItems]) -> list[bool]:
        """Put items of steps into streams, in order.

        Returns:
            For each whether it was taken. It isn't if its run is driven in another epoch, or by nobody; or if the
            run whose step it is has ended.
        """
        ...

    async def unsettled(self, runs: Sequence[int]) -> list[tuple[int, str]]:
        """(run, step) for every step of these runs with items that are neither taken back nor settled."""
        ...

    async def supersede(
        self, run: int, epoch: int, steps: Sequence[str], *, now: float, of: int | None = None
    ) -> bool:
        """Take back what these steps have put out. False: the run is driven in another epoch, or by nobody.

        Args:
            of: key of the run whose steps they are, if that is another one.
        """
        ...

    async def read(self, id: str, stream: str, *, after: int, limit: int) -> StreamPage | None:
        """Items with offset > after, in order; None if there is no run of this id."""
        ...

    async def names(self, id: str) -> list[tuple[str, int]]:
        """(name, newest offset) of each stream of a run, by name."""
        ...
