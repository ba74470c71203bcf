"""What must hold of queues with limits."""

from __future__ import annotations

from collections import Counter

from perdure.core.queues import LATER, QueueSettings
from perdure.core.rates import SLACK_MAX, SLACK_SHARE
from perdure.storage.memory_run import Run
from perdure.testing.simulation.observer import Observer, Rule


class QueueLimits(Rule):
    """Of runs in queues with limits:

    - No run begins while so many runs of its queue that have begun are live as `concurrency` allows; the same
      for `per_key` and the live runs of its key. Who has begun counts until its end, whatever becomes of its worker.
    - No worker has more runs of the queue than `per_worker` allows.
    - In no window of the length `per` do more runs begin than the rate's limit, by the clocks of the workers who
      admit them, if these are right.
    - Nobody begins while somebody with a higher priority stands in line, where priorities count and keys don't.
    - Nothing begins in a queue from when a pause or a drain is acknowledged until that of its end is asked for.
    - Of the live runs of a queue, also one without limits, no two have the same `dedup`.

    That nobody waits for ever is what the simulation looks at by itself: everything has to end.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._begun: dict[str, dict[int, Run]] = {}  # live ones, by queue
        self._begins: dict[str, list[float]] = {}
        self._line: dict[int, int] = {}  # ranks of those who stood in line before the claim
        self.held: set[str] = set()  #: queues in which nothing may begin

    def carried_out(self, verb: str) -> None:
        database = self._observer.database
        if verb == "create":
            self._check_dedups()
        if verb not in ("claim", "create", "append", "terminate") or not database.queues:
            return
        by_queue: dict[str, list[Run]] = {}
        for run in database.runs.values():
            if run.queue in database.queues and not run.ended:
                by_queue.setdefault(run.queue, []).append(run)
        for name, row in database.queues.items():
            if not row.limited:
                continue
            runs = by_queue.get(name, [])
            before = self._begun.get(name, {})
            begun = {run.run: run for run in runs if run.started_at is not None}
            fresh = [run for key, run in begun.items() if key not in before and run.generation == 1]
            self._begun[name] = begun
            if fresh:
                self._began(name, row.settings, fresh, begun)
            self._check_order(name, row.settings, fresh, runs)
            self._check_workers(name, row.settings, begun)
        self._line = {
            run.run: run.rank
            for runs in by_queue.values()
            for run in runs
            if run.rank is not None and _may_begin(run)
        }

    def _began(self, name: str, limits: QueueSettings, fresh: list[Run], begun: dict[int, Run]) -> None:
        counts = self._observer.counts
        counts["admitted"] += len(fresh)
        held, keys = len(begun), Counter(run.key for run in begun.values() if run.key is not None)
        if limits.concurrency is not None and held == limits.concurrency:
            counts["queues filled"] += 1
        who = [run.id for run in fresh]
        if limits.concurrency is not None and held > limits.concurrency:
            self._observer.wrong(f"queue {name}: {who} began, which makes {held} of {limits.concurrency}")
        for run in fresh:
            if limits.per_key is not None and run.key is not None and keys[run.key] > limits.per_key:
                self._observer.wrong(
                    f"queue {name}: {run.id} began, which makes {keys[run.key]} with the key {run.key}"
                )
        if name in self.held:
            self._observer.wrong(f"queue {name}: {who} began though it was held")
        if limits.rate is not None and self._observer.clocks_are_right:
            self._check_rate(name, limits, fresh)

    def _check_rate(self, name: str, limits: QueueSettings, fresh: list[Run]) -> None:
        rate = limits.rate
        assert rate is not None
        begins = self._begins.setdefault(name, [])
        begins += [run.started_at for run in fresh if run.started_at is not None]
        begins.sort()
        span = rate.per - min(rate.per * SLACK_SHARE, SLACK_MAX)
        for first, last in zip(begins, begins[rate.limit :], strict=False):
            if last - first < span:
                self._observer.wrong(
                    f"queue {name}: {rate.limit + 1} runs began within {last - first} s, of {rate}"
                )

    def _check_order(self, name: str, limits: QueueSettings, fresh: list[Run], runs: list[Run]) -> None:
        if not limits.priority or limits.keyed or not fresh:
            return
        left = [run for run in runs if run.run in self._line and _may_begin(run)]
        highest = max(left, key=lambda run: run.priority, default=None)
        lowest = min(fresh, key=lambda run: run.priority)
        if highest is not None and highest.priority > lowest.priority:
            self._observer.wrong(
                f"queue {name}: {lowest.id} of priority {lowest.priority} began before {highest.id} of "
                f"{highest.priority}"
            )

    def _check_workers(self, name: str, limits: QueueSettings, begun: dict[int, Run]) -> None:
        if limits.per_worker is None:
            return
        owned = Counter(run.owner for run in begun.values() if run.owner is not None)
        for worker, number in owned.items():
            if number > limits.per_worker:
                self._observer.wrong(f"queue {name}: worker {worker} has {number} of {limits.per_worker}")

    def _check_dedups(self) -> None:
        live = Counter(
            run.dedup
            for run in self._observer.database.runs.values()
            if run.dedup is not None and not run.ended
        )
        for dedup, number in live.items():
            if number > 1:
                self._observer.wrong(f"{number} live runs have the dedup {dedup!r}")


def _may_begin(run: Run) -> bool:
    """Whether it stands in line, and isn't held."""
    return run.rank not in (None, LATER) and run.wake_at is not None and run.paused is None
