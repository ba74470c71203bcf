"""Trying runs of which one may be killing its workers: what core/suspicion.py is about, at a worker.

While a worker that has nothing else tries some, nothing else comes to it: if it dies, it's clear who did it. The
trial is over when each of them has recorded something, has left memory (who only waits is handed back at once), or
when its time is up; then they go on beside others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from perdure.core.suspicion import PATIENCE, SUSPECTED, window
from perdure.runtime.driver import Driver
from perdure.runtime.timers import Timers
from perdure.storage.records import RunRow

logger = logging.getLogger("perdure.worker")

LOOK_EVERY = 0.02  #: seconds between looks at those who are tried


class Trials:
    """The trials of one worker.

    Args:
        drivers: those in memory, by run key.
        over: called when a trial is over.

    Attributes:
        alone: nothing else may come to this worker at the moment.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        timers: Timers,
        drivers: Mapping[int, Driver],
        over: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._timers = timers
        self._drivers = drivers
        self._over = over
        self._tried: Collection[tuple[Driver, int]] = ()
        self._known: set[int] = set()  # runs that came to be tried, as long as nothing else has come
        self._until = 0.0
        self.alone = False

    def upto(self) -> float | None:
        """Since when a suspected run must have been due for this worker to take it; None: it takes none now."""
        if self._tried:
            return None
        return self._clock() if self._clean() else self._clock() - PATIENCE

    def again_at(self, since: float) -> float:
        """When to look again for a suspected run that has waited so long."""
        return max(since if self._clean() else since + PATIENCE, self._clock() + 1.0)

    def claimed(self, rows: Sequence[RunRow]) -> bool:
        """Whether these are to be tried. Before they come into memory: nothing else may come meanwhile."""
        if not rows or rows[0].recoveries < SUSPECTED:
            return False
        self.alone = self._clean()
        if self.alone:
            self._known.update(row.run for row in rows)
        return True

    def begin(self, rows: Sequence[RunRow]) -> None:
        """These have come into memory."""
        drivers = [(self._drivers.get(row.run), row.seq) for row in rows]
        self._tried = [(driver, seq) for driver, seq in drivers if driver is not None]
        lost = max(row.recoveries for row in rows)
        self._until = self._clock() + window(lost)
        logger.warning(
            "runs whose workers died %d times in a row or less are tried %s: %s",
            lost,
            "with nothing else on this worker" if self.alone else "beside others",
            ", ".join(row.id for row in rows[:5]) + (", ..." if len(rows) > 5 else ""),
        )
        self._look()

    def _clean(self) -> bool:
        """Whether this worker has nothing else in its hands than what it has tried."""
        if not self._drivers:
            self._known.clear()
        return len(self._drivers) <= len(self._known) and self._known.issuperset(self._drivers)

    def _look(self) -> None:
        now = self._clock()
        self._tried = [(driver, seq) for driver, seq in self._tried if not _cleared(driver, seq, now)]
        if self._tried and now < self._until:
            self._timers.at(now + LOOK_EVERY, self._look)
            return
        self._tried, self.alone = (), False
        self._over()


def _cleared(driver: Driver, seq: int, now: float) -> bool:
    """Whether a run has done no harm: it has recorded something, it is gone, or it only waits and goes now."""
    if driver.gone or driver.seq > seq:
        return True
    due = driver.work.next_due()
    if not driver.idle() or (due is not None and due <= now):
        return False
    driver.release(due)
    return True
