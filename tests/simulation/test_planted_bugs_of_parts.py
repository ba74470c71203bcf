"""The simulation finds bugs in queues, published events, callbacks, schedules, streams, and whatever else has rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from planting import check_found

from perdure.api import streams
from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.core import schedules
from perdure.core.listening import Listening
from perdure.core.queues import Head, QueueSettings
from perdure.core.reuse import Reuse
from perdure.runtime import scheduler
from perdure.runtime.outbox import Outlet
from perdure.storage import (
    distribution,
    lines,
    memory_callbacks,
    memory_database,
    memory_queues,
    memory_streams,
)
from perdure.storage.callbacks import CallbackVerdict
from perdure.storage.lines import Plain, Plan
from perdure.storage.memory_callbacks import MemoryCallbacks
from perdure.storage.memory_database import MemoryDatabase
from perdure.storage.memory_handlers import MemoryUpdates
from perdure.storage.memory_publications import MemoryPublications, Publications
from perdure.storage.memory_run import Run
from perdure.storage.memory_schedules import MemorySchedules
from perdure.storage.publications import OpenWait

pytestmark = pytest.mark.usefixtures("no_definitions_of_others")

_replace = msgspec.structs.replace
_deliver = MemoryDatabase.deliver
_share, _answer, _plan = lines.share, memory_queues._answer, Plan.__init__
_open_wait, _run, _subscribe = Publications.open_wait, distribution._run, MemoryPublications.subscribe
_close, _request = MemoryCallbacks._close, MemoryUpdates.request
_change, _come, _decide = MemorySchedules.change, scheduler.come, schedules.decide


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


# -- of calls, pauses, forks and starts -----------------------------------------------------------------


async def called_again(updates: MemoryUpdates, run_id: str, update: str, *more: Any, **named: Any) -> Any:
    """A call with a key that was there before is another call."""
    updates._database().updates.pop((run_id, update), None)
    return await _request(updates, run_id, update, *more, **named)


def always_someone_new(database: Any, run: Any) -> None:
    """A start makes another run though one is live with its dedup."""


def nothing_taken(reuse: Reuse, operation: Any) -> None:
    """A fork does everything anew."""


def woken_by_mail(
    database: MemoryDatabase, run: Run, data: bytes, now: float | None, *more: Any, **named: Any
) -> bool:
    """A message wakes a run that is paused."""
    delivered = _deliver(database, run, data, now, *more, **named)
    if run.owner is None and not run.ended:
        run.wake_at = now
    return delivered


PLANTED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
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
    "update made again": (MemoryUpdates, "request", called_again),
    "dedup not heeded": (memory_database, "stands_for", always_someone_new),
    "fork takes nothing over": (Reuse, "_take", nothing_taken),
    "pause not heeded": (MemoryDatabase, "deliver", woken_by_mail),
}

#: What a scenario has to use for a bug to show. Those that aren't named here show in programs of all kinds.
THEMES: dict[Any, str] = {
    memory_queues: "queues",
    lines: "queues",
    Plan: "queues",
    Publications: "events",
    MemoryPublications: "events",
    forgotten_on_the_way: "events",
    MemoryUpdates: "calls",
    memory_database: "dedups",
    Reuse: "forks",
    woken_by_mail: "pauses",
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


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, bug = PLANTED[name]
    check_found(monkeypatch, name, owner, attribute, bug, THEMES.get(bug, THEMES.get(owner)))
