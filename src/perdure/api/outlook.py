"""How everything is, as an engine tells it: at a glance, what is stuck, and what goes on right now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.api.connection import Connection
from perdure.errors import UsageError

if TYPE_CHECKING:
    from perdure.api.overview import Overview, Window
    from perdure.api.stuck import StuckPage
    from perdure.api.watch import Watch


class Outlook:
    """The part of an engine that tells how everything is."""

    if TYPE_CHECKING:

        def _open(self) -> Connection: ...

    async def overview(self, window: Window = "hour") -> Overview:
        """How everything is: runs, what ended, how long it took, queues, workers, limits, money.

        Args:
            window: what the counts of ends look back at: "hour", "day" or "week".

        Raises:
            UsageError: the window is none of these.

        Example:
            >>> (await engine.overview()).runs  # doctest: +SKIP
            {'completed': 1204, 'running': 17, 'blocked': 2}
        """
        from perdure.api.overview import overview

        return await overview(self._open(), window)

    async def stuck(self, *, size: int = 200, cursor: str | None = None) -> StuckPage:
        """Runs that don't go on, or are slow, grouped by cause, each with what helps.

        Args:
            size: how many blocked and paused runs to look at, 1 to 1,000: each means reading a history.
            cursor: the `next` of the page before; the first page without it.

        Raises:
            UsageError: the size or the cursor can't be one.

        Example:
            >>> for group in (await engine.stuck()).groups:  # doctest: +SKIP
            ...     print(group.count, group.title, group.todo)
        """
        from perdure.api.stuck import stuck

        if not 1 <= size <= 1000:
            msg = f"size={size}: a page looks at 1 to 1000 runs"
            raise UsageError(msg)
        return await stuck(self._open(), size=size, cursor=cursor)

    def watch(self) -> Watch:
        """What `perdure top` shows, for programs: each `look()` tells what goes on at that moment.

        Example:
            >>> (await engine.watch().look()).ended  # runs a second  # doctest: +SKIP
            12.5
        """
        from perdure.api.watch import Watch

        return Watch(self._open())
