"""What a store keeps of schedules, and promises about them.

A schedule's row is changed by compare-and-set over its version, in one transaction with the runs that are
started and the mail that is sent for it. So whatever two workers make of the same slot, it happens once. What is
in `data` is no matter of the store's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from perdure.storage.records import NewRun


class ScheduleRow(msgspec.Struct, frozen=True, gc=False):
    """A schedule as the store knows it.

    Attributes:
        version: grows by one with each change. Begins at a random number, so that a schedule which is deleted
            and made anew isn't taken for the old one.
        due_at: when somebody has to look at it, None = not by time.
        waiting: somebody has to look at it when all of `running` have ended.
        running: ids of runs.
        data: the schedule, encoded.
    """

    name: str
    version: int
    due_at: float | None
    waiting: bool
    running: Sequence[str]
    data: bytes


class Due(msgspec.Struct, frozen=True, gc=False):
    """Schedules to look at, the longest due first; and when the next one will be due."""

    rows: Sequence[ScheduleRow]
    next_at: float | None


class ScheduleStore(Protocol):
    """The schedules in a store, as `store.schedules`. Each verb is one transaction."""

    async def create(self, row: ScheduleRow) -> ScheduleRow | None:
        """Add a schedule. If its name is taken nothing is done, and the row that has it is returned."""
        ...

    async def get(self, name: str) -> ScheduleRow | None:
        """The schedule of this name."""
        ...

    async def all(self) -> list[ScheduleRow]:
        """Every schedule, by name."""
        ...

    async def change(
        self,
        row: ScheduleRow,
        *,
        runs: Sequence[NewRun] = (),
        mail: Sequence[tuple[str, bytes]] = (),
        now: float,
    ) -> bool:
        """Replace the schedule if its version is still `row.version`, which then grows by one. With it, create
        `runs` (as Store.create does) and send `mail` (run id, encoded event; ended runs get none).

        False: it was changed or deleted by somebody else, and nothing was done.
        """
        ...

    async def delete(self, name: str) -> bool:
        """Remove a schedule, and leave its runs alone. False: there is none of this name."""
        ...

    async def due(self, *, now: float, limit: int) -> Due:
        """At most `limit` schedules with due_at <= now, or waiting for runs that have all ended."""
        ...
