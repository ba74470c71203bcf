"""Going on from another run's history: plans and new runs for `Handle.retry` and `Handle.fork`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from perdure.api.connection import Connection
from perdure.codec.arguments import Arguments
from perdure.codec.events import decode_event, encode_event
from perdure.codec.values import ValueCodec
from perdure.core import events as ev
from perdure.core.commands import Command, RunStep, StartChild
from perdure.core.machine import Machine
from perdure.core.reuse import Reuse
from perdure.core.scope import operation_name
from perdure.core.status import Status
from perdure.errors import RunConflictError, UsageError
from perdure.runtime.definitions import WorkflowDefinition, is_singleton, step_named, workflow_named
from perdure.runtime.machines import let_go, new_machine
from perdure.runtime.queues import dedup_of
from perdure.runtime.runs import check_run_id, run_fingerprint
from perdure.runtime.soundness import damaged
from perdure.runtime.takeover import first_moment
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.storage.chance import chance
from perdure.storage.records import NewRun, RunRow

_ANY = ValueCodec[Any](Any, "result given for a step")
_MAX_PAYLOAD = 1 << 30  # of a dry run, which sends nothing
_TURN_LIMIT = 2.0


class Args:
    """Arguments for a step of a fork, in the place of those that the code gives: `edits={"app.fetch#1": Args("x")}`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        given = [repr(arg) for arg in self.args] + [f"{name}={arg!r}" for name, arg in self.kwargs.items()]
        return f"Args({', '.join(given)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPlan:
    """What a fork would do, from `fork(dry_run=True)`.

    Attributes:
        reused: the steps whose outcomes it takes over, in order.
        edited: of these, the ones whose results were given.
        runs: the steps and child runs that it begins with by itself; what comes after depends on their outcomes.
        exact: this process has the workflow's code, and has tried. Else it is what the history alone tells.
    """

    reused: tuple[str, ...]
    edited: tuple[str, ...]
    runs: tuple[str, ...]
    exact: bool


class Original:
    """A run that another one is to go on from, with its history."""

    def __init__(self, row: RunRow, history: Sequence[ev.Event]) -> None:
        self.row = row
        self.history = history
        started = history[0]
        assert isinstance(started, ev.RunStarted)
        self.started = started

    def retried(self, now: float) -> NewRun:
        """Its next generation, which goes on from where it failed."""
        generation = self.row.generation + 1
        first = self._first(now, ev.Donor(self.row.id, self.row.generation, self._began()))
        first = msgspec.structs.replace(first, generation=generation)
        return msgspec.structs.replace(
            self._new(self.row.id, first), generation=generation, follows=self.row.run, inherit=True
        )

    def forked(
        self, id: str, now: float, upto: int | None, results: dict[str, bytes], inputs: dict[str, bytes]
    ) -> NewRun:
        """A run of its own that goes on from what it has done."""
        donor = ev.Donor(self.row.id, self.row.generation, self._began(), upto, results, inputs)
        first = msgspec.structs.replace(self._first(now, donor), generation=1, keys=1, attributes=None)
        return self._new(id, first)

    def _began(self) -> float:
        return first_moment(self.started, self.row.started_at or self.row.created_at)

    def _first(self, now: float, donor: ev.Donor) -> ev.RunStarted:
        started = self.started
        limit = None if started.deadline is None else started.deadline - started.at
        return msgspec.structs.replace(
            started,
            at=now,
            donor=donor,
            deadline=None if limit is None else now + limit,
            parent=None,  # whoever waited for it has heard of its end
            parent_op=None,
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
            step = self.step(at)
            for seq, event in enumerate(self.history, 1):
                if isinstance(event, ev.StepCompleted | ev.StepFailed) and event.step == step:
                    return seq
        msg = (
            f"fork(at={at!r}): give the number of an event of run {self.row.id!r} (it has {len(self.history)}), or "
            "the id of a step that has ended there"
        )
        raise UsageError(msg)

    def edits(self, edits: Mapping[str, Any] | None) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Encoded results and arguments by step id.

        Raises:
            UsageError: there is no such step.
            NotSerializableError: a value doesn't fit its step.
        """
        results: dict[str, bytes] = {}
        inputs: dict[str, bytes] = {}
        for name, value in (edits or {}).items():
            step = self.step(name)
            definition = step_named(operation_name(step))
            if not isinstance(value, Args):
                results[step] = (_ANY if definition is None else definition.result).record(value)[0]
            elif definition is None:
                inputs[step] = _unnamed(name, value)
            else:
                definition.arguments.check(value.args, value.kwargs)
                inputs[step] = definition.arguments.record(value.args, value.kwargs)[0]
        return results, inputs

    def step(self, name: str) -> str:
        """The id of a step, given that or its name.

        Raises:
            UsageError: no step goes by that, or several do.
        """
        kinds = (
            ev.StepCompleted,
            ev.StepFailed,
            ev.StepStarted,
            ev.StepAttemptFailed,
            ev.StepDelayed,
            ev.StepParked,
        )
        ids = dict.fromkeys(event.step for event in self.history if isinstance(event, kinds))
        if name in ids:
            return name
        named = [id for id in ids if name in ((op := operation_name(id)), op.rpartition(".")[2])]
        if len(named) == 1:
            return named[0]
        what = f"several steps go by {name!r}" if named else f"there is no step {name!r}"
        known = ", ".join(repr(id) for id in (named or list(ids))[:20])
        msg = f"{what} in the history of run {self.row.id!r}: give the id of one, such as {known}"
        raise UsageError(msg)

    # -- looking ahead ------------------------------------------------------------------------------

    def plan(self, fork: NewRun, first: ev.RunStarted) -> ForkPlan:
        """What a fork would take over, and with what it would begin."""
        donor = first.donor
        assert donor is not None
        definition = workflow_named(fork.workflow)
        if definition is None:
            return self._guess(donor)
        reuse = Reuse(self.history, upto=donor.upto, results=donor.results)
        row = msgspec.structs.replace(self.row, id=fork.id)
        left = _tried(new_machine(row, definition, _MAX_PAYLOAD), definition, first, reuse)
        return ForkPlan(
            reused=tuple(reuse.steps),
            edited=tuple(step for step in reuse.steps if step in donor.results),
            runs=tuple(command.id for command in left if isinstance(command, RunStep | StartChild)),
            exact=True,
        )

    def _guess(self, donor: ev.Donor) -> ForkPlan:
        kept = self.history if donor.upto is None else self.history[: donor.upto - 1]
        done = [event.step for event in kept if isinstance(event, ev.StepCompleted)]
        reused = [step for step in dict.fromkeys([*done, *donor.results]) if step not in donor.inputs]
        kinds = (ev.StepCompleted, ev.StepFailed, ev.StepStarted)
        known = dict.fromkeys(event.step for event in self.history if isinstance(event, kinds))
        return ForkPlan(
            reused=tuple(reused),
            edited=tuple(donor.results),
            runs=tuple(step for step in known if step not in reused)[:1],
            exact=False,
        )


def _tried(
    machine: Machine, definition: WorkflowDefinition, first: ev.RunStarted, reuse: Reuse
) -> list[Command]:
    """What the code asks for beyond what it takes over. Nothing is written, nothing is executed."""
    turns = Turns(_TURN_LIMIT)

    def feed(event: ev.Event, value: Any) -> bool:
        if event.at < machine.loop.now:
            event = msgspec.structs.replace(event, at=machine.loop.now)
        with turns.of(machine, definition.guard):
            machine.feed(event, value)
        return True

    try:
        with turns.of(machine, definition.guard):
            machine.begin(first, first_moment(first, first.at))
        written: Any = feed
        return reuse.go_on(machine, feed, lambda record, effects: written(record, None))
    except TurnInterrupt:
        turns.over()
        raise machine.turn_limit_error() from None
    finally:
        let_go(machine, turns)
        turns.close()


async def original(connection: Connection, id: str, at: int | str | None = None) -> Original:
    """A run with its history; of a damaged one what is before the damage, if no more is asked for.

    Raises:
        UnknownRunError: there is none.
        DamagedHistoryError: what is needed of its history isn't what was recorded.
    """
    row = await connection.row(id)
    (history,) = await connection.store.load([row.run])
    if (damage := history.damage) is None:
        return Original(row, [event async for event in connection.history(row.run)])
    kept = (damage.seq or 1) - 1
    if kept == 0 or at is None or (isinstance(at, int) and at > kept + 1):
        raise damaged(id, damage)
    sound: list[ev.Event] = []
    while len(sound) < kept:
        page = await connection.store.events(row.run, after=len(sound), limit=kept - len(sound))
        sound += [decode_event(data) for _, data in page]
    return Original(row, sound)


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
        msg = f"run {id!r} can't be retried: somebody else has just done that"
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
    connection: Connection,
    id: str,
    at: int | str | None,
    edits: Mapping[str, Any] | None,
    new_id: str | None,
    *,
    dry_run: bool,
) -> str | ForkPlan:
    """See Handle.fork. Returns the new run's id."""
    if new_id is not None:
        check_run_id(new_id)
    source = await original(connection, id, at)
    upto = source.cut(at)
    results, inputs = source.edits(edits)
    chosen = new_id or f"{id}-fork-{chance.uuid4().hex[:8]}"
    new = source.forked(chosen, connection.clock(), upto, results, inputs)
    if dry_run:
        donor = ev.Donor(id, source.row.generation, source._began(), upto, results, inputs)
        return source.plan(new, msgspec.structs.replace(source.started, donor=donor, generation=1, keys=1))
    (made,) = await connection.store.create([new])
    if not made.new and made.row.id != chosen:
        msg = f"run {id!r} can't be forked: run {made.row.id!r} of this singleton is live. Wait for its end"
        raise RunConflictError(msg)
    if not made.new and not await _is_that(connection, made.row, new):
        msg = f"the fork of run {id!r} can't have the id {chosen!r}: a run has it already. Choose another one"
        raise RunConflictError(msg)
    connection.nudge()
    return chosen


def _unnamed(step: str, edit: Args) -> bytes:
    """Arguments of a step that this process has no code for, or whose body is made on the spot (see inline.py)."""
    if edit.kwargs or len(edit.args) != 1:
        msg = (
            f"edits={{{step!r}: {edit!r}}}: this process has no code for that step: import its module first. If it is "
            "a call of a model or a tool, give one argument: all that it is given"
        )
        raise UsageError(msg)
    return Arguments(_given, f"step {step}").record(edit.args, {})[0]


def _given(given: Any) -> None: ...
