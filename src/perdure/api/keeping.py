"""What an engine does about old runs: `prune`, and what is known of whoever removes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from perdure.runtime.retention import Retention, all_rules, rules_given

if TYPE_CHECKING:
    from perdure.api.connection import Connection
    from perdure.runtime.settings import Settings


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

    async def retention(self) -> RetentionState | None:
        """Who removes old runs, and by which rules; None if nobody ever did."""
        from perdure.runtime.sweeping import rules_in

        found = await self._open().store.retention.sweeping()
        if found is None:
            return None
        working = found.until > self._settings.clock()
        told = [str(rule) for rule in rules_in(found.rules)]
        return RetentionState(found.holder, datetime.fromtimestamp(found.at, UTC), working, told)
