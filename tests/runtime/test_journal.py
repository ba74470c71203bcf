"""When the journal offers what it was given: at once, at the end of a turn, in a row, and never without end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from perdure.runtime.journal import FLUSH_AT, IN_A_ROW, Journal
from perdure.storage.records import Append, Appended, Stale


class Answering:
    """The one verb of a store that a journal uses.

    Attributes:
        batches: the runs of each batch offered.
        at_once: whether it answers within the call, as SQLite does for lone appends.
    """

    def __init__(self, *, at_once: bool) -> None:
        self.batches: list[list[int]] = []
        self.at_once = at_once

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        loop = asyncio.get_running_loop()
        self.batches.append([append.run for append in batch])
        answers: list[Appended | Stale] = [Appended(append.expected + 1) for append in batch]
        future: asyncio.Future[list[Appended | Stale]] = loop.create_future()
        if self.at_once and len(batch) == 1:
            future.set_result(answers)
        else:
            loop.call_soon(future.set_result, answers)
        return future


def of(run: int, expected: int = 0) -> Append:
    return Append(run, expected, 1, expected + 1, [b"{}"], 0.0, [b"link"])


class Steps:
    """A run whose steps are each done as soon as the last one is durable."""

    def __init__(self, journal: Journal, run: int, left: int, *, hurried: bool = True) -> None:
        self.journal = journal
        self.run = run
        self.left = left
        self.done = 0
        self.hurried = hurried
        self.depth = 0

    def begin(self) -> None:
        self.left -= 1
        self.journal.hurried = self.hurried
        self.journal.submit(of(self.run, self.done), self, [])
        if self.hurried:
            self.journal.hurry()

    def appended(self, result: Any, events: Any, append: Any) -> None:
        self.depth += 1
        assert self.depth == 1, "an answer comes within another"
        self.done += 1
        if self.left:
            self.begin()
        self.depth -= 1


def follow(main: Callable[[Journal, Answering], None], *, at_once: bool) -> tuple[Answering, list[int]]:
    """What the store was offered, and how many batches each turn of the loop has seen offered."""

    async def turns() -> tuple[Answering, list[int]]:
        store: Any = Answering(at_once=at_once)
        journal = Journal(store, asyncio.get_running_loop())
        main(journal, store)
        counts = [len(store.batches)]
        while journal._pending or journal._in_flight or len(counts) < 10:
            before = len(store.batches)
            await asyncio.sleep(0)
            counts.append(len(store.batches) - before)
            assert len(counts) < 1000
        return store, counts

    return asyncio.run(turns())


def test_what_follows_a_lone_append_at_once_is_offered_in_the_same_turn() -> None:
    store, counts = follow(lambda journal, _: Steps(journal, 1, 3).begin(), at_once=True)
    assert (store.batches, counts[0]) == ([[1]] * 3, 3)


def test_others_get_their_turn_all_the_same() -> None:
    store, counts = follow(lambda journal, _: Steps(journal, 1, 50).begin(), at_once=True)
    assert store.batches == [[1]] * 50
    assert max(counts) == IN_A_ROW


def test_runs_that_are_ready_together_share_a_commit() -> None:
    def main(journal: Journal, _: Answering) -> None:
        for run in (1, 2):
            Steps(journal, run, 10, hurried=False).begin()

    store, _ = follow(main, at_once=True)
    assert store.batches == [[1, 2]] * 10


def test_two_runs_that_hurry_come_to_share_their_commits() -> None:
    def main(journal: Journal, _: Answering) -> None:
        for run in (1, 2):
            Steps(journal, run, 40).begin()

    store, counts = follow(main, at_once=True)
    alone = [batch for batch in store.batches if len(batch) == 1]
    assert len(alone) == 2 * IN_A_ROW  # until the first turn's end
    assert sorted(chain.from_iterable(store.batches)) == [1] * 40 + [2] * 40
    assert max(counts[1:]) <= IN_A_ROW


def test_what_is_handed_in_while_a_batch_is_on_its_way_goes_together() -> None:
    def main(journal: Journal, _: Answering) -> None:
        for run in (1, 2, 3):
            Steps(journal, run, 5).begin()

    store, _ = follow(main, at_once=False)
    assert store.batches[0] == [1]
    assert sorted(chain.from_iterable(store.batches)) == sorted([1, 2, 3] * 5)
    assert len(store.batches) <= 10


def test_of_a_crowd_the_first_are_offered_while_others_are_still_at_work() -> None:
    def main(journal: Journal, _: Answering) -> None:
        for run in range(FLUSH_AT * 5 // 2):
            Steps(journal, run, 1, hurried=False).begin()

    store, counts = follow(main, at_once=False)
    assert [len(batch) for batch in store.batches] == [FLUSH_AT, FLUSH_AT, FLUSH_AT // 2]
    assert counts[0] == 2
