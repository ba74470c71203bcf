"""Going on from another run's history: plans and new runs for `Handle.retry` and `Handle.fork`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from perdure.api.connection import Connection
from perdure.api.editing import Known, run_input
from perdure.api.forkplans import ForkPlan, plan
from perdure.codec.events import decode_event, encode_event
from perdure.codec.values import check_size
from perdure.core import events as ev
from perdure.core.listening import heard_of
from perdure.core.namespaces import prefix_of, short
from perdure.core.status import Status
from perdure.core.tracing import TraceContext
from perdure.errors import RunConflictError, UsageError
from perdure.runtime.definitions import is_singleton
from perdure.runtime.queues import dedup_of
from perdure.runtime.runs import check_run_id, run_fingerprint
from perdure.runtime.soundness import damaged
from perdure.runtime.takeover import first_moment
from perdure.storage.chance import chance
from perdure.storage.records import NewRun, RunRow

#: What a retry of a fork takes over of how that was forked.
_CHANGES = ("results", "inputs", "edits", "counterfactual")

#: How a fork deals with effects: it acts; it takes over what is recorded; it puts stubs in the place of all else.
Effects: TypeAlias = Literal["run", "reuse", "stub"]


class Wish(NamedTuple):
    """What is asked of a fork; see Handle.fork."""

    at: int | str | None = None
    edits: Mapping[str, Any] | None = None
    input: Any = None
    effects: Effects = "run"
    stubs: Mapping[str, Any] | None = None
    refused: Literal["block", "fail"] = "block"

    def counterfactual(self, known: Known) -> ev.Counterfactual | None:
        """How effects are withheld, None if they aren't.

        Raises:
            UsageError: these don't go together.
            NotSerializableError: a stub doesn't fit its step.
        """
        if self.effects not in ("run", "reuse", "stub") or self.refused not in ("block", "fail"):
            msg = (
                f'fork(effects={self.effects!r}, refused={self.refused!r}): effects is "run", "reuse" or "stub", and '
                'refused is "block" or "fail"'
            )
            raise UsageError(msg)
        if self.effects == "run":
            if self.stubs or self.refused != "block":
                msg = (
                    'fork(stubs=..., refused=...) is for counterfactual forks: give effects="reuse" or "stub"'
                )
                raise UsageError(msg)
            return None
        stubs = {pattern: known.result(pattern, value) for pattern, value in (self.stubs or {}).items()}
        return ev.Counterfactual(stubs, recorded=self.effects == "stub", fails=self.refused == "fail")


class Original:
    """A run that another one is to go on from, with its history.

    Args:
        trace: what that other one keeps of where it comes from.
    """

    def __init__(
        self,
        row: RunRow,
        history: Sequence[ev.Event],
        trace: Callable[[str, ev.RunStarted], TraceContext | None],
    ) -> None:
        self.row = row
        self.history = history
        started = history[0]
        assert isinstance(started, ev.RunStarted)
        self.started = started
        self.known = Known(row.id, history)
        self._trace = trace

    def retried(self, now: float) -> NewRun:
        """Its next generation, which goes on from where it failed."""
        generation = self.row.generation + 1
        donor = ev.Donor(short(self.row.id), self.row.generation, self._began())
        if (before := self.started.donor) is not None:  # what it was forked with goes on to hold
            changed = {name: getattr(before, name) for name in _CHANGES}
            donor = msgspec.structs.replace(donor, **changed)
        first = self._first(now, donor)
        first = msgspec.structs.replace(first, generation=generation)
        return msgspec.structs.replace(
            self._new(self.row.id, first), generation=generation, follows=self.row.run, inherit=True
        )

    def forked(self, id: str, now: float, wish: Wish, max_payload: int) -> tuple[NewRun, ev.RunStarted]:
        """A run of its own that goes on from what this one has done, and how it starts.

        Raises:
            UsageError, NotSerializableError: what is asked for doesn't fit the run.
        """
        edits = self.known.edits(wish.edits)
        donor = ev.Donor(
            short(self.row.id),
            self.row.generation,
            self._began(),
            self.cut(wish.at),
            edits.results,
            edits.inputs,
            edits.patterns,
            wish.counterfactual(self.known),
        )
        for part in _parts_of(donor):
            check_size(part, max_payload, "edit of a fork")
        first = msgspec.structs.replace(
            self._first(now, donor), generation=1, keys=1, keys_of=None, attributes=None
        )
        if wish.input is not None:
            data = run_input(first.workflow, first.input, wish.input, max_payload)
            first = msgspec.structs.replace(first, input=data)
        new = self._new(id, first)
        if donor.counterfactual is not None:  # of a singleton it doesn't count as the one
            new = msgspec.structs.replace(new, dedup=None)
        return new, first

    def _began(self) -> float:
        return first_moment(self.started, self.row.started_at or self.row.created_at)

    def _first(self, now: float, donor: ev.Donor) -> ev.RunStarted:
        started = self.started
        limit = None if started.deadline is None else started.deadline - started.at
        return msgspec.structs.replace(
            started,
            at=now,
            donor=donor,
            heard=heard_of(started),
            deadline=None if limit is None else now + limit,
            parent=None,  # whoever waited for it has heard of its end
            parent_op=None,
            trace=self._trace(self.row.id, started),
        )

    def _new(self, id: str, first: ev.RunStarted) -> NewRun:
        return NewRun(
            id=id,
            workflow=first.workflow,
            fingerprint=run_fingerprint(first.workflow, first.input),
            first_event=encode_event(first),
            queue=self.row.queue,
            created_at=first.at,
            wake_at=first.at,
            attach=False,
            pinned=bool(self.row.pinned),
            key=self.row.key,
            priority=self.row.priority,
            dedup=dedup_of(first.workflow) if is_singleton(first.workflow) else None,
            donor=self.row.id,
        )

    # -- where, and with what -----------------------------------------------------------------------

    def cut(self, at: int | str | None) -> int | None:
        """The number of the first event that isn't taken over.

        Raises:
            UsageError: there is no such place in the history.
        """
        if at is None or (isinstance(at, int) and 0 < at <= len(self.history) + 1):
            return at
        if isinstance(at, str):
            step = self.known.step(at)
            for seq, event in enumerate(self.history, 1):
                if isinstance(event, ev.StepCompleted | ev.StepFailed) and event.step == step:
                    return seq
        msg = (
            f"fork(at={at!r}): give the number of an event of run {self.row.id!r} (it has {len(self.history)}), or "
            "the id of a step that has ended there"
        )
        raise UsageError(msg)


def _parts_of(donor: ev.Donor) -> Iterator[bytes]:
    """All that a fork brings with it."""
    yield from donor.results.values()
    yield from donor.inputs.values()
    for edit in donor.edits:
        yield from (part for part in (edit.result, edit.input) if part is not None)
        yield from (part for _, part in edit.parts)
    if donor.counterfactual is not None:
        yield from donor.counterfactual.stubs.values()


async def original(connection: Connection, id: str, at: int | str | None = None) -> Original:
    """A run with its history; of a damaged one what is before the damage, if no more is asked for.

    Raises:
        UnknownRunError: there is none.
        DamagedHistoryError: what is needed of its history isn't what was recorded.
    """
    row = await connection.row(id)
    (history,) = await connection.store.load([row.run])
    if (damage := history.damage) is None:
        return Original(row, [event async for event in connection.history(row.run)], connection.from_run)
    kept = (damage.seq or 1) - 1
    if kept == 0 or at is None or (isinstance(at, int) and at > kept + 1):
        raise damaged(id, damage)
    sound: list[ev.Event] = []
    while len(sound) < kept:
        page = await connection.store.events(row.run, after=len(sound), limit=kept - len(sound))
        sound += [decode_event(data) for _, data in page]
    return Original(row, sound, connection.from_run)


async def retry(connection: Connection, id: str) -> None:
    """See Handle.retry."""
    row = await connection.row(id)
    if row.status != Status.FAILED:
        msg = (
            f"run {id!r} can't be retried: it is {row.status}, not failed. fork() goes on from a run in any state, "
            "`perdure why` tells what a blocked one needs"
        )
        raise RunConflictError(msg)
    failed = await original(connection, id)
    (made,) = await connection.store.create([failed.retried(connection.clock())])
    if not made.new and made.row.id != id:
        msg = (
            f"run {id!r} can't be retried: run {made.row.id!r} is live, and only one may be. Wait for its end, or "
            "terminate it"
        )
        raise RunConflictError(msg)
    if not made.new:
        msg = f"run {id!r} can't be retried: somebody else has just done that, so it goes on"
        raise RunConflictError(msg)
    connection.nudge()


async def _is_that(connection: Connection, row: RunRow, fork: NewRun) -> bool:
    """Whether a run that has the id of a fork is that fork, started before."""
    ((_, data),) = await connection.store.events(row.run, limit=1)
    there, asked = decode_event(data), decode_event(fork.first_event)
    assert isinstance(there, ev.RunStarted)
    assert isinstance(asked, ev.RunStarted)
    return (there.workflow, there.input, there.donor) == (asked.workflow, asked.input, asked.donor)


async def fork(
    connection: Connection, id: str, wish: Wish, new_id: str | None, *, dry_run: bool
) -> str | ForkPlan:
    """See Handle.fork. Returns the new run's id."""
    if new_id is not None:
        check_run_id(new_id)
    source = await original(connection, id, wish.at)
    chosen = f"{id}-fork-{chance.uuid4().hex[:8]}" if new_id is None else prefix_of(id) + new_id
    new, first = source.forked(chosen, connection.clock(), wish, connection.max_payload)
    if dry_run:
        return await plan(connection, source.row, source.history, chosen, first)
    (made,) = await connection.store.create([new])
    if not made.new and made.row.id != chosen:
        msg = f"run {id!r} can't be forked: run {made.row.id!r} of this singleton is live. Wait for its end"
        raise RunConflictError(msg)
    if not made.new and not await _is_that(connection, made.row, new):
        msg = f"the fork of run {id!r} can't have the id {chosen!r}: a run has it already. Choose another one"
        raise RunConflictError(msg)
    connection.nudge()
    return chosen
