"""`python -m perdure.testing.simulation`: many seeds, and the figures."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path

from perdure.testing.simulation.drawing import drawn
from perdure.testing.simulation.faults import KINDS
from perdure.testing.simulation.scenario import load, save
from perdure.testing.simulation.shrink import shrunk
from perdure.testing.simulation.simulating import Outcome, simulate, simulated

#: Seeds that one job simulates.
_BATCH = 20
#: Jobs that one process does, since it grows: by some 40 MB in 500 seeds.
_BATCHES = 25


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m perdure.testing.simulation",
        description="Simulate the engine among faults, in virtual time. The same seed always does the same.",
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many (default: 100)")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", metavar="S", help="the first one (default: 0)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument("--log", action="store_true", help="print all that happens")
    parser.add_argument("--keep", type=Path, help="a folder for the scenarios that fail, made small")
    parser.add_argument("--file", type=Path, help="simulate a scenario that was kept instead")
    return parser.parse_args()


class Figures:
    """What many simulations amount to."""

    def __init__(self) -> None:
        self.seeds = 0
        self.seconds = 0.0
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.failed: list[tuple[int, list[str]]] = []

    def add(self, seed: int, outcome: Outcome) -> None:
        """One more."""
        self.seeds += 1
        self.seconds += outcome.seconds
        self.counts += outcome.counts
        self.faults += outcome.faults
        if outcome.violations:
            self.failed.append((seed, outcome.violations))

    def lines(self, took: float) -> list[str]:
        """For people."""
        count = self.counts
        hits = ", ".join(f"{kind} {self.faults[kind]:,}" for kind in KINDS if self.faults[kind])
        return [
            f"simulation: {self.seeds:,} seeds, {count['programs']:,} programs in {count['runs']:,} runs, "
            f"{count['steps']:,} steps recorded, {count['bodies']:,} bodies begun, {count['timers']:,} timers, "
            f"{count['messages']:,} messages, {count['children']:,} children; {self.seconds / 3600:.1f} virtual hours "
            f"in {took:.0f} s",
            f"simulation: {count['admitted']:,} runs admitted by queues with limits, {count['queues filled']:,} times "
            f"to the last slot; {count['published']:,} events published for {count['started by events']:,} runs, "
            f"{count['events heard']:,} heard by runs; {count['callbacks completed']:,} callbacks completed, "
            f"{count['callbacks expired']:,} timed out; {count['slots fired']:,} slots fired, "
            f"{count['slots skipped']:,} skipped; {count['items']:,} items in streams",
            f"simulation: {count['begun under limits']:,} bodies begun under rate limits, which were blocked "
            f"{count['blocks of limits']:,} times; {count['calls that spend']:,} calls that spend, "
            f"{count['budgets raised']:,} raises of budgets; {count['answers']:,} answers counted, "
            f"{count['answers too late']:,} came too late; {count['steps parked']:,} steps waited for people, who let "
            f"{count['decisions']:,} go on, and {count['retries']:,} failed runs; {count['singletons']:,} singletons",
            f"simulation: faults that hit: {hits or 'none'}; {count['takeovers']:,} takeovers, {count['stale']:,} "
            f"appends fenced off, {count['recognised']:,} repeated ones recognised",
            f"simulation: {len(self.failed)} of {self.seeds:,} seeds with violations",
        ]


def main() -> int:
    """Be the program; returns its exit code."""
    asked = arguments()
    if asked.file is not None:
        return _tell(simulate(load(asked.file)), log=asked.log)
    if asked.log:
        return _tell(simulate(drawn(asked.first)), log=True)
    began = time.monotonic()
    figures = Figures()
    last = asked.first + asked.seeds
    batches = [range(start, min(start + _BATCH, last)) for start in range(asked.first, last, _BATCH)]
    # The pool of concurrent.futures may hang when it replaces a process: CPython's issue 115634.
    with get_context("spawn").Pool(asked.jobs, maxtasksperchild=_BATCHES) as pool:
        _collect(figures, pool.imap(simulated, batches))
    for seed, violations in figures.failed:
        for violation in violations[:3]:
            print(f"seed {seed}: {violation}")  # noqa: T201 - a program speaks
        if asked.keep is not None:
            save(shrunk(drawn(seed)), asked.keep / f"seed-{seed}.json")
    print("\n".join(figures.lines(time.monotonic() - began)))  # noqa: T201
    return 1 if figures.failed else 0


def _collect(figures: Figures, results: Iterable[list[tuple[int, Outcome]]]) -> None:
    for batch in results:
        for seed, outcome in batch:
            figures.add(seed, outcome)


def _tell(outcome: Outcome, *, log: bool) -> int:
    if log:
        print("\n".join(outcome.log))  # noqa: T201
    for violation in outcome.violations:
        print(f"violation: {violation}")  # noqa: T201
    print(f"digest {outcome.digest}, {dict(outcome.counts)}, faults {dict(outcome.faults)}")  # noqa: T201
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
