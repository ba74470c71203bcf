"""Takes over from a donor's history: how a retry or a fork comes to where it begins to do things itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from perdure.codec.events import decode_event, encode_event
from perdure.core import events as ev
from perdure.core.commands import Command, StartChild
from perdure.core.donor import NOTHING
from perdure.core.finding import UNSET
from perdure.core.listening import heard_of
from perdure.core.machine import Machine
from perdure.core.namespaces import prefix_of, short
from perdure.core.reuse import Reuse
from perdure.core.status import Status
from perdure.errors import PerdureError, StoreError
from perdure.runtime.definitions import WorkflowDefinition
from perdure.runtime.feeding import feed
from perdure.runtime.host import Host
from perdure.runtime.soundness import refuse_damaged_before
from perdure.storage.effects import Effect
from perdure.storage.ledger import Inherit
from perdure.storage.protocol import Store
from perdure.storage.records import History, NewRun, RunRow

logger = logging.getLogger("perdure.takeover")

RETRY_EVERY = 0.5  #: seconds before the next try of what the store refused
PAGE = 500  #: child runs that are looked up at once

#: In the place of an event's value: the code has got it already, it is only to be written.
FED: Any = object()


class Run(Protocol):
    """The run's driver."""

    gone: bool
    machine: Machine
    definition: WorkflowDefinition
    donor: Reuse | None

    @property
    def host(self) -> Host[Any]: ...
    def block(self, error: Exception, where: str = ...) -> None: ...
    def busy(self) -> bool: ...
    def take_riders(self) -> list[ev.Event]: ...
    def collect(self, event: Any, value: Any, effects: Sequence[Effect] = ...) -> ev.Event: ...
    def add_effect(self, effect: Effect) -> None: ...


def first_moment(started: ev.RunStarted, driven_at: float) -> float:
    """The code's first idea of now: that of its donor, so that what it does with it is the same."""
    return driven_at if started.donor is None else started.donor.began


def take_over(run: Run, donor: Reuse) -> list[Command]:
    """Let the code go on as far as the donor's history brings it; returns what it asks for beyond.

    What is taken over is fed at once and written by one append: until that is durable nothing hangs on it, and
    after a crash it is taken over again. While something else is on its way to the code, it has to queue.
    """
    steps, children = len(donor.steps), len(donor.children)
    if run.busy():
        left: list[Command] = []
        for command in run.machine.take_commands():
            copies = donor.offers(command)
            for event, value in copies:
                run.collect(event, value)
            if not copies:
                left.append(command)
    else:
        for note in run.take_riders():
            _feed(run, note, UNSET)
        left = donor.go_on(run.machine, lambda event, value: _feed(run, event, value), _writer(run))
    _inherit(run, donor.steps[steps:], donor.moved, donor.children[children:])
    if donor.exhausted:
        run.donor = None
    return left


def _inherit(run: Run, steps: Sequence[str], moved: Mapping[str, str], children: Sequence[str]) -> None:
    """What has been taken over needn't be paid again: that is booked with it."""
    started = run.machine.started
    if (steps or children) and not run.gone and started is not None and started.donor is not None:
        donor = started.donor
        ids = {moved.get(step, step): step for step in steps}
        renamed = {id: step for id, step in ids.items() if id != step}
        run.add_effect(Inherit(donor.run, donor.generation, tuple(ids), tuple(children), renamed))


def _writer(run: Run) -> Any:
    def write(record: ev.Record, effects: Sequence[Effect]) -> bool:
        feed(run, run.collect(record, FED, effects))
        return not run.gone

    return write


def _feed(run: Run, event: ev.Event, value: Any) -> bool:
    feed(run, run.collect(event, FED), value)
    return not run.gone


async def load_donor(store: Store, started: ev.RunStarted, own: History, within: str = "") -> Reuse | None:
    """What a run may take over; None if its donor has nothing more.

    Args:
        own: the run's own history so far.
        within: what the stored ids of its namespace begin with.

    Raises:
        PerdureError: the donor isn't there.
        DamagedHistoryError: its history isn't what was recorded, as far as it is needed.
    """
    donor = started.donor
    assert donor is not None
    mine = [decode_event(data) for data in own.events]
    if donor.upto == NOTHING:
        reuse = Reuse((), donor, had=mine)
        return None if reuse.exhausted else reuse
    again = donor.generation < started.generation
    while True:
        try:
            row = await store.generation(within + donor.run, donor.generation)
            if row is None:
                msg = (
                    f"the run goes on from generation {donor.generation} of run {donor.run!r}, which isn't in this "
                    "database any more. Terminate the run, and start it anew"
                )
                raise PerdureError(msg)
            (history,) = await store.load([row.run])
            refuse_damaged_before(row.id, history, donor.upto)
            sound = (
                history.events if history.damage is None else history.events[: (history.damage.seq or 1) - 1]
            )
            theirs = [decode_event(data) for data in sound]
            retries = again or started.keys_of is not None
            origins = await origins_of(store, row, _kept(theirs, donor), again=again, retries=retries)
            break
        except StoreError as error:
            logger.warning("couldn't read a donor's history, will try again: %s", error)
            await asyncio.sleep(RETRY_EVERY)
    unsaid = None if started.parent is None else _short_or_none(row.parent_id)
    reuse = Reuse(theirs, donor, had=mine, unsaid=unsaid, own=again)
    begun = {event.child: event for event in mine if isinstance(event, ev.ChildStarted)}
    reuse.children += [event.run for event in begun.values() if event.reused]
    reuse.origins = {op: origin for op, origin in origins.items() if op not in begun}
    return None if reuse.exhausted else reuse


def _short_or_none(id: str | None) -> str | None:
    return None if id is None else short(id)


class Origin(msgspec.Struct, frozen=True):
    """A child run under the donor, from which the same child under the new run can go on.

    Attributes:
        like: only if it is called in the same way: it is retried, not forked.
        failed: it is retried, with its parent or with one further up: to services, and to those who hear what it
            publishes, the new one is the same if it is called in the same way.
    """

    row: RunRow
    started: ev.RunStarted
    like: bool
    failed: bool


def _kept(history: Sequence[ev.Event], donor: ev.Donor) -> Sequence[ev.Event]:
    return history if donor.upto is None else history[: donor.upto - 1]


async def origins_of(
    store: Store, parent: RunRow, history: Sequence[ev.Event], *, again: bool, retries: bool = False
) -> dict[str, Origin]:
    """The children of a donor by op id: for a retry (`again`) those that failed, for a fork all that have ended.

    Args:
        retries: the run is a retry, or a child of one that goes on from the child that failed.
    """
    ids: dict[str, str] = {}
    ended: list[str] = []
    for event in history:
        match event:
            case ev.ChildStarted():
                ids[event.child] = event.run
            case ev.ChildEnded() if event.child in ids and (event.status == Status.FAILED or not again):
                ended.append(event.child)
            case _:
                pass
    found: dict[str, Origin] = {}
    for page in (ended[start : start + PAGE] for start in range(0, len(ended), PAGE)):
        rows = await store.get([prefix_of(parent.id) + ids[op] for op in page])
        for op, row in zip(page, rows, strict=True):
            if row is None:
                continue
            failed = (row.parent, row.parent_op, row.status) == (parent.run, op, Status.FAILED)
            if again and not failed:
                continue
            ((_, first),) = await store.events(row.run, limit=1)
            started = decode_event(first)
            assert isinstance(started, ev.RunStarted)
            found[op] = Origin(row, started, like=again, failed=retries and failed)
    return found


def origin_for(reuse: Reuse, operation: StartChild) -> Origin | None:
    """The donor's child from which one that is started goes on: that with its input, or else that in its place."""
    origins: dict[str, Origin] = reuse.origins
    chosen = operation.id
    mine = origins.get(chosen)
    if (mine is None or mine.started.input != operation.input) and not chosen.endswith("]"):
        asked = operation.workflow, operation.input
        for op, origin in origins.items():
            same = (origin.started.workflow, origin.started.input) == asked
            if same and not origin.like and not op.endswith("]"):
                chosen = op
                break
    found = origins.get(chosen)
    reuse.goes_on_from(chosen)
    return found


def with_donor(new: NewRun, parent: ev.RunStarted | None, origin: Origin | None, now: float) -> NewRun:
    """A child run as a fork or a retry starts it: it goes on from the child that was there before, if there was one.

    Args:
        parent: how the run was started whose child it is.
    """
    given = None if parent is None else parent.donor
    donor = None if given is None else given.handed_on(now)
    first = decode_event(new.first_event)
    assert isinstance(first, ev.RunStarted)
    if origin is not None and _continues(first, origin):
        row, before = origin.row, origin.started
        began = first_moment(before, row.started_at or row.created_at)
        first = msgspec.structs.replace(first, seed=before.seed, heard=heard_of(before))
        if origin.failed and first.input == before.input:
            keys_of = before.keys_of or short(row.id)
            first = msgspec.structs.replace(first, keys=before.keys, keys_of=keys_of)
        if donor is None:
            donor = ev.Donor(short(row.id), row.generation, began)
        else:
            donor = msgspec.structs.replace(
                donor, run=short(row.id), generation=row.generation, began=began, upto=None
            )
    if donor is None:
        return new
    data = encode_event(msgspec.structs.replace(first, donor=donor))
    free = donor.counterfactual is not None  # of a singleton it doesn't count as the one
    dedup = None if free else new.dedup
    needs = None if donor.upto == NOTHING or donor.run == new.id else donor.run
    return msgspec.structs.replace(new, first_event=data, owner=None, dedup=dedup, donor=needs)


def _continues(first: ev.RunStarted, origin: Origin) -> bool:
    before = origin.started
    return first.workflow == before.workflow and (first.input == before.input or not origin.like)
