"""What an engine does about old runs: `prune`, and what is known of whoever removes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from perdure.errors import UsageError
from perdure.runtime.retention import Retention, all_rules, rules_given
from perdure.storage.disk import SPANS, WorkflowSize

if TYPE_CHECKING:
    from perdure.api.connection import Connection
    from perdure.runtime.settings import Settings


#: Pages of ended runs that are looked at to tell what is due.
_DUE_PAGES = 10
_VACUUM = 1 << 20


class Pruned(msgspec.Struct, frozen=True):
    """What a pass over all ended runs has removed, or would.

    Attributes:
        runs: how many.
        kinds: of these, how many of each workflow ended how.
        kept: runs that are old enough and stay, by why.
        files: that were written to archives.
        looked: runs that were looked at.
    """

    runs: int
    kinds: dict[tuple[str, str], int] = {}
    kept: dict[str, int] = {}
    files: int = 0
    looked: int = 0


class DiskUsage(msgspec.Struct, frozen=True):
    """The room that a database takes, from `engine.disk()`; large ones are estimated.

    Attributes:
        bytes: of all its files but the log.
        free: bytes of these that are free; they are used again, or given back.
        log: bytes of a SQLite file's write-ahead log.
        shrinks: free room is given back while workers go on.
        runs: how many there are, earlier generations included.
        oldest: when the oldest of them was created.
        tables: bytes by table with its indexes, the largest first; empty if they weren't counted.
        workflows: the largest first.
        removing: runs that are gone but for rows that are being removed.
        rules: by which workers remove runs, in words.
        due: runs that these rules say have been kept long enough, and nobody needs.
        due_more: there may be more of these; so many were looked at.
    """

    bytes: int
    free: int
    log: int
    shrinks: bool
    runs: int
    oldest: datetime | None
    tables: dict[str, int]
    workflows: list[WorkflowSize]
    removing: int
    rules: list[str]
    due: int
    due_more: bool


class RetentionState(msgspec.Struct, frozen=True):
    """Who removes old runs, or did last.

    Attributes:
        holder: the worker, or the command.
        at: when it last said that it was at it.
        working: it is at it now.
        rules: by which it does, in words.
    """

    holder: str
    at: datetime
    working: bool
    rules: list[str]


class Keeping:
    """The part of an engine that is about old runs."""

    _settings: Settings

    if TYPE_CHECKING:

        def _open(self) -> Connection: ...

    async def prune(self, rules: Sequence[Retention], *, dry: bool = False) -> Pruned | None:
        """Remove runs that have been kept long enough, by these rules alone, whatever other rules there are.

        It is done in small steps, as workers do it. When it is interrupted, do it again.

        Args:
            dry: remove nothing, only count. Children of what would go aren't counted.

        Returns:
            None if somebody else was removing runs all the time, so that nothing was done.

        Raises:
            StoreUnavailableError: an archive can't be written to; no run goes without its copy.

        Example:
            >>> async def main(engine: Engine) -> None:
            ...     await engine.prune([Retention(timedelta(days=30), status="completed")])
        """
        from perdure.runtime.sweeping import Sweeper, sweep_once
        from perdure.storage.chance import chance

        chosen = all_rules(rules_given(rules), ())
        store = self._open().store
        holder = f"prune {chance.token_hex(4)}"
        sweeper = Sweeper(store, holder, lambda: chosen, self._settings.clock, dry=dry, tells=False)
        try:
            tally = await sweep_once(sweeper)
        finally:
            if not dry:
                await sweeper.leave()
        if tally is None:
            return None
        runs = tally.fits - sum(tally.kept.values()) if dry else tally.runs
        return Pruned(runs, tally.by_workflow, tally.kept, tally.files, tally.looked)

    async def disk(self) -> DiskUsage:
        """How much room the database takes, by what, and what the rules of workers would free. Bounded work."""
        from perdure.runtime.sweeping import Sweeper, rules_in

        store, clock = self._open().store, self._settings.clock
        use = await store.disk.use()
        state = await store.retention.sweeping()
        rules = rules_in(state.rules) if state is not None else []
        counter = Sweeper(store, "", lambda: rules, clock, dry=True)
        pages = 0
        more: bool | None = bool(rules)
        while more and pages < _DUE_PAGES:
            more, pages = await counter.step(), pages + 1
        return DiskUsage(
            bytes=use.bytes,
            free=use.free,
            log=use.log,
            shrinks=use.shrinks,
            runs=use.runs,
            oldest=None if use.oldest is None else datetime.fromtimestamp(use.oldest, UTC),
            tables={table.name: table.bytes for table in use.tables},
            workflows=list(use.workflows),
            removing=use.remainders,
            rules=[str(rule) for rule in rules],
            due=counter.tally.fits - sum(counter.tally.kept.values()),
            due_more=bool(more),
        )

    async def vacuum(self) -> int:
        """Give all free room of a SQLite file back that it gives back in steps; returns how many bytes that was."""
        disk, given = self._open().store.disk, 0
        while step := await disk.shrink(bytes=_VACUUM):
            given += step
            await asyncio.sleep(0)
        return given

    async def partition(self, span: str) -> bool:
        """Keep events of a PostgreSQL database in a table for each "day", "week" or "month". Workers with retention
        make the next ones, and drop those of which no run is left.

        Returns:
            False on other databases.

        Raises:
            UsageError: there is no such span.
            StoreError: there are events already.
        """
        if span not in SPANS:
            raise UsageError(f"span={span!r} must be one of {', '.join(SPANS)}")
        disk = self._open().store.disk
        made = await disk.partition(span)
        if made:
            await disk.tend(now=self._settings.clock())
        return made

    async def retention(self) -> RetentionState | None:
        """Who removes old runs, and by which rules; None if nobody ever did."""
        from perdure.runtime.sweeping import rules_in

        found = await self._open().store.retention.sweeping()
        if found is None:
            return None
        working = found.until > self._settings.clock()
        told = [str(rule) for rule in rules_in(found.rules)]
        return RetentionState(found.holder, datetime.fromtimestamp(found.at, UTC), working, told)
