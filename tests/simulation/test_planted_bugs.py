"""The simulation finds bugs: each of these, planted into the engine or its store, is found within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from planting import check_found

from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.runtime.journal import Journal
from perdure.runtime.steps import StepExecutor
from perdure.runtime.work import Work
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_run import Run
from perdure.storage.records import Append, Appended, Stale

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

_replace = msgspec.structs.replace
_append = MemoryDatabase.append
_deliver = MemoryDatabase.deliver
_again = MemoryDatabase._again
_offer = Journal._offer
_arm = Work.arm


# -- of a store ---------------------------------------------------------------------------------------


def any_epoch(database: MemoryDatabase, append: Append) -> Appended | Stale:
    """An append of an old epoch passes."""
    run = database.runs.get(append.run)
    return _append(database, append if run is None else _replace(append, epoch=run.epoch))


def any_place(database: MemoryDatabase, append: Append) -> Appended | Stale:
    """An append passes, however many events there are by now."""
    run = database.runs.get(append.run)
    return _append(database, append if run is None else _replace(append, expected=len(run.events)))


def unknown_attempts(database: MemoryDatabase, append: Append) -> Appended | Stale:
    """An append that is repeated isn't recognised."""
    run = database.runs.get(append.run)
    if run is not None:
        run.attempt = None
    return _append(database, append)


def written_again(database: MemoryDatabase, run: Run, append: Append) -> Appended:
    """An append that is repeated is written twice."""
    run.events += append.events
    return _again(database, run, append)


def nobody_wakes(
    database: MemoryDatabase, run: Run, data: bytes, now: float | None, *more: Any, **named: Any
) -> bool:
    """Mail doesn't make a run due that nobody drives."""
    return _deliver(database, run, data, None, *more, **named)


def ends_unheard(database: MemoryDatabase, append: Append) -> Appended | Stale:
    """A parent isn't told that its child has ended, one time in three."""
    lost = append.parent_mail is not None and append.attempt % 3 == 0
    return _append(database, _replace(append, parent_mail=None) if lost else append)


def kept_mail(database: MemoryDatabase, append: Append) -> Appended | Stale:
    """What was received stays in the inbox."""
    return _append(database, _replace(append, consumed=()))


def lost_mail(
    self: MemoryDatabase, run: Run, data: bytes, now: float | None, *more: Any, **named: Any
) -> bool:
    """Messages to a run that nobody drives are acknowledged, and forgotten."""
    if run.owner is None and isinstance(decode_event(data), ev.MessageReceived):
        return True
    return _deliver(self, run, data, now, *more, **named)


# -- of the runtime -----------------------------------------------------------------------------------


def acknowledged_early(journal: Journal, batch: Any, pause: float) -> None:
    """Appends count as durable when they are on their way."""
    if any(append.children or append.successor for append, _, _ in batch):
        _offer(journal, batch, pause)
        return
    journal._store.append([append for append, _, _ in batch]).add_done_callback(
        lambda settled: settled.exception()
    )
    told = [Appended(append.expected + len(append.events)) for append, _, _ in batch]
    journal._loop.call_soon(journal._deliver, batch, told)


def refused_for_good(journal: Journal, batch: Any, error: Any, pause: float) -> None:
    """What the store refuses isn't offered again."""


def always_sure(executor: StepExecutor, moment: float) -> None:
    """A worker whose lease is over begins steps."""
    executor.calls.sure_until = float("inf")
    executor._begin_next()


def armed_early(work: Work, name: str, due: float, *more: Any) -> None:
    """Time that code waits for seems to have passed a little early."""
    _arm(work, name, due - 0.1 if "sleep" in name else due, *more)


def sleeps_for_ever(work: Work) -> None:
    """A run that leaves memory doesn't say when it is due again."""


PLANTED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "epoch check dropped": (MemoryDatabase, "append", any_epoch),
    "sequence check dropped": (MemoryDatabase, "append", any_place),
    "attempt id ignored": (MemoryDatabase, "append", unknown_attempts),
    "repeated append written twice": (MemoryDatabase, "_again", written_again),
    "lost wake-up": (MemoryDatabase, "deliver", nobody_wakes),
    "end of a child unheard": (MemoryDatabase, "append", ends_unheard),
    "mail received again": (MemoryDatabase, "append", kept_mail),
    "message acknowledged and lost": (MemoryDatabase, "deliver", lost_mail),
    "acknowledged before committed": (Journal, "_offer", acknowledged_early),
    "refused batch dropped": (Journal, "_refused", refused_for_good),
    "lease ignored": (StepExecutor, "sure_until", always_sure),
    "timers early": (Work, "arm", armed_early),
    "due time forgotten": (Work, "next_due", sleeps_for_ever),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_found(monkeypatch, name, *PLANTED[name], first=200 if name == "lease ignored" else 0)
