"""The simulation finds bugs: each of these, planted into the engine or its store, is found within a few seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from perdure.api import streams
from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core import schedules
from perdure.core.listening import Listening
from perdure.core.queues import Head, QueueSettings
from perdure.runtime import scheduler
from perdure.runtime.journal import Journal
from perdure.runtime.outbox import Outlet
from perdure.runtime.steps import StepExecutor
from perdure.runtime.work import Work
from perdure.storage import (
    distribution,
    lines,
    memory_callbacks,
    memory_queues,
    memory_streams,
)
from perdure.storage.callbacks import CallbackVerdict
from perdure.storage.lines import Plain, Plan
from perdure.storage.memory_callbacks import MemoryCallbacks
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_publications import MemoryPublications, Publications
from perdure.storage.memory_run import Run
from perdure.storage.memory_schedules import MemorySchedules
from perdure.storage.publications import OpenWait
from perdure.storage.records import Append, Appended, Stale
from perdure.testing.simulation.scenario import drawn
from perdure.testing.simulation.simulating import simulate

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

#: Within so many seeds each of them has to be found.
SEEDS = 120

_replace = msgspec.structs.replace
_append = MemoryDatabase.append
_deliver = MemoryDatabase.deliver
_again = MemoryDatabase._again
_offer = Journal._offer
_arm = Work.arm
_share, _answer, _plan = lines.share, memory_queues._answer, Plan.__init__
_open_wait, _run, _subscribe = Publications.open_wait, distribution._run, MemoryPublications.subscribe
_close = MemoryCallbacks._close
_change, _come, _decide = MemorySchedules.change, scheduler.come, schedules.decide


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


# -- of queues ----------------------------------------------------------------------------------------


def only_those_in_memory(database: Any, queue: str) -> Counter[str]:
    """A run that has left memory holds no slot."""
    return Counter(
        run.key or ""
        for run in database.runs.values()
        if run.queue == queue and run.slot and not run.ended and run.owner is not None
    )


def held_after_the_end(database: Any, queue: str) -> Counter[str]:
    """A run that has ended keeps its slot."""
    return Counter(run.key or "" for run in database.runs.values() if run.queue == queue and run.slot)


def any_key(
    settings: QueueSettings, heads: Sequence[Head], free: int, held: Mapping[str, int]
) -> dict[int, int]:
    """Runs of a key begin, however many of them go on."""
    return _share(_replace(settings, per_key=None), heads, free, held)


def rate_not_spent(settings: QueueSettings, arrival: int, admitted: int, now: float) -> int:
    """Who begins takes nothing of the rate."""
    return arrival


def any_priority(line: list[Any], question: Any) -> list[tuple[Any, ...]]:
    """Who has waited longest begins, whatever its priority."""
    if isinstance(question, Plain):
        return [(run.run,) for run in sorted(line, key=lambda run: (run.wake_at, run.run))[: question.limit]]
    return _answer(line, question)


def drained_in_vain(plan: Plan, *more: Any) -> None:
    """A queue that is drained admits runs."""
    _plan(plan, *more)
    plan.lines = [state for state in more[1] if state.limited and state.name in more[2]]


# -- of published events ------------------------------------------------------------------------------


def looks_forward(kept: Publications, run: int, effect: OpenWait) -> None:
    """A wait gets only what comes after it."""
    _open_wait(kept, run, effect)
    kept.waits[run, effect.op].fresh = False


async def begins_anew(publications: MemoryPublications, *more: Any, **named: Any) -> None:
    """A subscription begins anew with each worker that signs up."""
    publications._kept.subscriptions.clear()
    await _subscribe(publications, *more, **named)


def lost_place(listening: Listening, subscription: str, number: int) -> None:
    """A run forgets which events it has had."""


def forgotten_on_the_way(
    database: MemoryDatabase, run: Run, data: bytes, now: float | None, *more: Any, **named: Any
) -> bool:
    """An event doesn't reach a run that nobody drives."""
    if run.owner is None and isinstance(decode_event(data), ev.PublicationArrived):
        return True
    return _deliver(database, run, data, now, *more, **named)


def overfull(subscription: Any, items: Sequence[Any], *more: Any, **named: Any) -> Any:
    """The first of a batch is left out."""
    return _run(subscription, items[1:] if len(items) > 1 else items, *more, **named)


# -- of callbacks -------------------------------------------------------------------------------------


def always_open(row: Any) -> CallbackVerdict:
    """A callback that has ended can be completed again."""
    return CallbackVerdict.UNKNOWN if row is None else CallbackVerdict.DONE


def unheard(callbacks: MemoryCallbacks, row: Any, state: Any, event: bytes, now: float) -> None:
    """A completion doesn't reach a run that nobody drives."""
    run = callbacks._database().runs[row.run]
    if run.owner is None:
        row.state, row.ended_at = state.value, now
    else:
        _close(callbacks, row, state, event, now)


def impatient(row: Any, now: float) -> bool:
    """A callback times out a little early."""
    return row.deadline is not None and row.deadline - 0.3 <= now


# -- of schedules -------------------------------------------------------------------------------------


async def whatever_version(schedules: MemorySchedules, row: Any, **more: Any) -> bool:
    """A schedule is changed by whoever has computed its slots, though somebody else has dealt with them."""
    current = schedules._database().schedules.get(row.name)
    return await _change(
        schedules, row if current is None else _replace(row, version=current.version), **more
    )


def only_the_last(schedule: Any, now: float) -> Any:
    """Of slots that have come together only the last one is dealt with."""
    found, missed, after = _come(schedule, now)
    return found[-1:], missed, after


def no_overlap(*more: Any, busy: bool, **named: Any) -> Any:
    """A run of an earlier slot that goes on doesn't matter."""
    return _decide(*more, busy=False, **named)


# -- of streams ---------------------------------------------------------------------------------------


def driven_by_anybody(database: Any, run: int, epoch: int) -> bool:
    """Who drives the run no more puts items out."""
    return run in database.runs


def nothing_void(database: Any, run: int, step: str, now: float) -> None:
    """What a failed attempt has put out stays."""


async def not_seen_through(outlet: Outlet) -> None:
    """A step's outcome is recorded before its items are."""


def void_for_ever(row: Any, after: int, told: Any) -> bool:
    """Readers aren't told that what they have got is void."""
    return row.data is not None and not row.superseded


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
    "slot lost with memory": (memory_queues, "_slots", only_those_in_memory),
    "slot kept after the end": (memory_queues, "_slots", held_after_the_end),
    "keys not bounded": (lines, "share", any_key),
    "rate not spent": (lines, "after_admitting", rate_not_spent),
    "priority not heeded": (memory_queues, "_answer", any_priority),
    "drain not heeded": (Plan, "__init__", drained_in_vain),
    "no looking back": (Publications, "open_wait", looks_forward),
    "subscription begins anew": (MemoryPublications, "subscribe", begins_anew),
    "event got again": (Listening, "_moves_on", lost_place),
    "event lost on its way": (MemoryDatabase, "deliver", forgotten_on_the_way),
    "event left out of a batch": (distribution, "_run", overfull),
    "callback completed twice": (memory_callbacks, "standing", always_open),
    "completion unheard": (MemoryCallbacks, "_close", unheard),
    "callback over early": (memory_callbacks, "is_over", impatient),
    "slot fired twice": (MemorySchedules, "change", whatever_version),
    "slot lost": (scheduler, "come", only_the_last),
    "overlap not heeded": (schedules, "decide", no_overlap),
    "items of a zombie": (memory_streams, "_driven", driven_by_anybody),
    "void items stay": (memory_streams, "_supersede", nothing_void),
    "outcome before its items": (Outlet, "see_through", not_seen_through),
    "reader not told": (streams, "_counts", void_for_ever),
}

#: What a scenario has to use for a bug to show. Those that aren't named here show in programs of all kinds.
THEMES: dict[Any, str] = {
    memory_queues: "queues",
    lines: "queues",
    Plan: "queues",
    Publications: "events",
    MemoryPublications: "events",
    forgotten_on_the_way: "events",
    Listening: "events",
    distribution: "events",
    memory_callbacks: "callbacks",
    MemoryCallbacks: "callbacks",
    MemorySchedules: "schedules",
    scheduler: "schedules",
    schedules: "schedules",
    memory_streams: "streams",
    Outlet: "streams",
    streams: "streams",
}


def found_in(seeds: range, theme: str | None) -> tuple[int, str] | None:
    """The first seed that fails, and how."""
    for seed in seeds:
        outcome = simulate(drawn(seed, None if theme is None else (theme,)), hasty=True)
        if outcome.violations:
            return seed, outcome.violations[0]
    return None


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug = PLANTED[name]
    monkeypatch.setattr(owner, attribute, bug)
    found = found_in(range(SEEDS), THEMES.get(bug, THEMES.get(owner)))
    assert found is not None, f"{SEEDS} seeds found nothing wrong with this: {bug.__doc__}"
    print(f"{name}: seed {found[0]}: {found[1]}")
