"""Tries every mutant on the tests that are expected to catch it: `make mutants`.

Each mutant is made in a copy of the tree, in a temporary folder. First the tests run on a copy without a bug, where
they must pass; then on each mutant, where one must fail. A test that hangs counts, since the suite has a limit for
that; tests that have to be ended from here have caught nothing. What was judged is kept in .mutants/, so a hunt that
was interrupted goes on where it was, as long as neither source nor tests have changed. When all are judged,
docs/mutants.md is written anew.

python tests/mutants/hunt.py [--only NAME ...] [--lanes 2] [--again] [--no-nets]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import itertools
import json
import queue
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from mutations import (
    HERE,
    ROOT,
    Applied,
    Mutant,
    Net,
    StaleMutationError,
    file_of,
    mutants,
    mutated,
    nets,
    split,
)
from report import document
from trying import Outcome, copy_tree, end_what_runs, try_tests

#: Seconds after which tests on the source without a bug are ended.
CLEAN_LIMIT = 1200.0
_KEPT = ROOT / ".mutants" / "results.json"
_DOCUMENT = ROOT / "docs" / "mutants.md"


class Results:
    """What was found out so far, on disk: from outcomes to what they hold for."""

    def __init__(self, *, again: bool) -> None:
        self._kept: dict[str, Any] = {}
        if _KEPT.exists() and not again:
            self._kept = json.loads(_KEPT.read_text())
        self._tree = _digest_of_tree()
        self._lock = threading.Lock()

    def get(self, what: str, *depends: object) -> Outcome | None:
        found = self._kept.get(what)
        if found is None or found["key"] != self._key(depends):
            return None
        return Outcome(**found["outcome"])

    def put(self, outcome: Outcome, what: str, *depends: object) -> None:
        with self._lock:
            self._kept[what] = {"key": self._key(depends), "outcome": outcome._asdict()}
            _KEPT.parent.mkdir(exist_ok=True)
            new = _KEPT.with_suffix(".new")
            new.write_text(json.dumps(self._kept, indent=1, sort_keys=True))
            new.replace(_KEPT)

    def _key(self, depends: tuple[object, ...]) -> str:
        return hashlib.sha256(f"{self._tree} {sys.version} {depends!r}".encode()).hexdigest()[:16]


def _digest_of_tree() -> str:
    """Of the source and all tests, and of how they are tried; a mutant's own texts count for itself only."""
    digest = hashlib.sha256()
    for folder in ("src", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            ours = HERE in path.parents and path.name not in ("trying.py", "witness.py")
            if path.suffix in (".py", ".sql", ".json") and not ours:
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


class Hunt:
    """A hunt of some mutants.

    Args:
        lanes: copies of the tree, each of which is used by one at a time.

    Attributes:
        lanes: how many there are.
    """

    def __init__(self, results: Results, lanes: list[Path]) -> None:
        self._results = results
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self.lanes = len(lanes)
        self._moments = itertools.count(int(time.time()) + 10, 2)

    def passes_without(self, what: str, tests: list[str]) -> bool:
        """Whether tests pass on the source as it is."""
        outcome = self._results.get(f"clean: {what}", tests)
        if outcome is None:
            lane = self._free.get()
            try:
                outcome = try_tests(lane, tests, first_only=False, limit=CLEAN_LIMIT)
            finally:
                self._free.put(lane)
            if outcome.verdict == "passed":
                self._results.put(outcome, f"clean: {what}", tests)
        print(f"without a bug: {what}: {_told(outcome)}", flush=True)
        return outcome.verdict == "passed"

    def judge(self, mutant: Mutant) -> Outcome:
        """What the tests that are to catch a mutant say of it."""
        return self._tried(mutant.name, mutant, list(mutant.tests))

    def cast(self, net: Net, mutant: Mutant) -> Outcome:
        """What other tests say of a mutant."""
        return self._tried(f"{mutant.name} / {net.name}", mutant, list(net.tests))

    def _tried(self, what: str, mutant: Mutant, tests: list[str]) -> Outcome:
        outcome = self._results.get(what, mutant.changes, tests)
        if outcome is not None:
            return outcome
        lane = self._free.get()
        try:
            with Applied(mutant, lane, next(self._moments)):
                outcome = try_tests(lane, tests)
        finally:
            self._free.put(lane)
        if outcome.sure:
            self._results.put(outcome, what, mutant.changes, tests)
        return outcome


def _told(outcome: Outcome) -> str:
    where = f" {outcome.test}: {outcome.why}" if outcome.test else ""
    return f"{outcome.verdict} after {outcome.seconds:.1f} s, {outcome.passed} tests passed{where}"


def united(chosen: list[Mutant]) -> list[list[str]]:
    """All tests that mutants name, none of them twice: for each kind of options the arguments of one run."""
    runs: dict[tuple[str, ...], dict[str, None]] = {}
    for mutant in chosen:
        tests, given = split(mutant.tests)
        runs.setdefault(given, {}).update(dict.fromkeys(tests))
    return [
        [*(test for test in tests if file_of(test) == test or file_of(test) not in tests), *given]
        for given, tests in runs.items()
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Try every mutant on the tests that are to catch it.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants; parts of names will do")
    parser.add_argument("--lanes", type=int, default=2, help="how many at a time")
    parser.add_argument("--again", action="store_true", help="forget what was judged before")
    parser.add_argument("--no-nets", action="store_true", help="only the tests that each mutant names")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of shells are deaf to it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    every = mutants()
    chosen = [
        mutant for mutant in every if not options.only or any(part in mutant.name for part in options.only)
    ]
    try:
        for mutant in chosen:
            mutated(mutant)
    except StaleMutationError as error:
        print(error)
        return 2
    results = Results(again=options.again)
    with tempfile.TemporaryDirectory(prefix="perdure-mutants-") as folder:
        lanes = [copy_tree(Path(folder) / f"lane{number}") for number in range(options.lanes)]
        hunt = Hunt(results, lanes)
        if not _all_pass(hunt, chosen):
            print("These tests fail without any bug, so they can't tell of one. Mend them first.")
            return 2
        caught = _hunted(hunt, chosen)
        try:
            if not options.no_nets:
                _cast_nets(hunt, chosen)
        finally:
            _write_document(results, every)
    print(f"{caught} of {len(chosen)} caught, {len(chosen) - caught} survived")
    return 0 if caught == len(chosen) else 1


def _all_pass(hunt: Hunt, chosen: list[Mutant]) -> bool:
    parts = [part for tests in united(chosen) for part in _parts(tests, hunt.lanes)]
    names = [f"tests of mutants, {number} of {len(parts)}" for number in range(1, len(parts) + 1)]
    work = [functools.partial(hunt.passes_without, *item) for item in zip(names, parts, strict=True)]
    return all(list(_side_by_side(hunt, work)))


def _parts(arguments: list[str], number: int) -> list[list[str]]:
    """The same tests in so many runs."""
    tests, given = split(arguments)
    return [[*part, *given] for part in (tests[start::number] for start in range(number)) if part]


def _hunted(hunt: Hunt, chosen: list[Mutant]) -> int:
    """How many were caught."""

    def judge(mutant: Mutant) -> bool:
        outcome = hunt.judge(mutant)
        print(f"{'caught' if outcome.caught else 'SURVIVED':9}{mutant.name}: {_told(outcome)}", flush=True)
        return outcome.caught

    return sum(_side_by_side(hunt, [functools.partial(judge, mutant) for mutant in chosen]))


def _cast_nets(hunt: Hunt, chosen: list[Mutant]) -> None:
    """Find out what else catches them."""
    for net in nets():
        within = [mutant for mutant in chosen if net.name in mutant.nets]
        if within and hunt.passes_without(net.name, list(net.tests)):
            work = [functools.partial(_caught_by, hunt, net, mutant) for mutant in within]
            found = sum(_side_by_side(hunt, work))
            print(f"{net.name}: {found} of {len(within)} caught", flush=True)


def _caught_by(hunt: Hunt, net: Net, mutant: Mutant) -> bool:
    return hunt.cast(net, mutant).caught


def _side_by_side(hunt: Hunt, work: Sequence[Callable[[], bool]]) -> Iterator[bool]:
    """Do it in all lanes; what executes is ended when this is interrupted."""
    with ThreadPoolExecutor(hunt.lanes) as pool:
        futures = [pool.submit(task) for task in work]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            end_what_runs()
            pool.shutdown(cancel_futures=True)
            raise


def _write_document(results: Results, every: list[Mutant]) -> None:
    """When all are judged; of nets it tells which of them haven't been tried."""
    judged = {mutant.name: results.get(mutant.name, mutant.changes, list(mutant.tests)) for mutant in every}
    by_nets = {
        (mutant.name, net.name): results.get(f"{mutant.name} / {net.name}", mutant.changes, list(net.tests))
        for mutant in every
        for net in nets()
        if net.name in mutant.nets
    }
    if all(judged.values()):
        _DOCUMENT.write_text(document(every, nets(), judged, by_nets), encoding="utf-8")
    else:
        print("docs/mutants.md is as it was: not every mutant is judged")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
