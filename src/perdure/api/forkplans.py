"""What a fork would do, and what that is likely to cost: `fork(dry_run=True)`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure.api.connection import Connection
from perdure.api.spending import Usage, usage_of
from perdure.core import events as ev
from perdure.core.commands import Command, RunStep, StartChild
from perdure.core.edits import Edit, names
from perdure.core.machine import Machine
from perdure.core.reuse import Reuse
from perdure.core.scope import operation_name
from perdure.core.usage import Sums, Used
from perdure.runtime.definitions import WorkflowDefinition, workflow_named
from perdure.runtime.machines import let_go, new_machine
from perdure.runtime.prices import priced
from perdure.runtime.takeover import first_moment, origins_of
from perdure.runtime.turns import TurnInterrupt, Turns
from perdure.runtime.withholding import fate
from perdure.storage.ledger import EntryState, Query
from perdure.storage.records import RunRow

_MAX_PAYLOAD = 1 << 30  # of a dry run, which sends nothing
_TURN_LIMIT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkPlan:
    """What a fork would do, from `fork(dry_run=True)`.

    Nobody can know what steps will return that have yet to run. So the plan goes as far as what is recorded leads: it
    tells with which steps the fork begins, and which ones of the original may follow.

    Attributes:
        reused: the steps whose outcomes it takes over, in order.
        edited: of these, the ones whose results were given.
        runs: the steps and child runs that it begins with by itself; what comes after depends on their outcomes.
        later: the other steps and child runs of the original: each is taken over if it is asked for with the same
            input in the end, and done again if not.
        stubbed: of `runs`, the steps of a counterfactual fork in whose place there is a stub.
        refused: of `runs`, the steps of a counterfactual fork that aren't done.
        exact: this process has the workflow's code, and has tried. Else it is what the history alone tells.
        saved: what calls of the reused steps had cost, and aren't made again.
        cost: what calls of `runs` are likely to cost: what the same steps used in the original, at the price of the
            model that an edit names, if one does.
        cost_later: what calls of `later` had cost: what the fork costs more, if all of them are done again.
    """

    reused: tuple[str, ...]
    edited: tuple[str, ...]
    runs: tuple[str, ...]
    later: tuple[str, ...] = ()
    stubbed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    exact: bool
    saved: Usage = field(default_factory=Usage)
    cost: Usage = field(default_factory=Usage)
    cost_later: Usage = field(default_factory=Usage)


async def plan(
    connection: Connection, row: RunRow, history: Sequence[ev.Event], id: str, first: ev.RunStarted
) -> ForkPlan:
    """What a fork would take over, and with what it would begin.

    Args:
        row, history: the original's.
        id: the fork's id.
        first: its first event.
    """
    donor = first.donor
    assert donor is not None
    definition = workflow_named(first.workflow)
    kept = history if donor.upto is None else history[: donor.upto - 1]
    reuse = Reuse(history, donor)
    if definition is None:
        runs: dict[str, Any] = {}
        taken = _guessed(kept, donor)
        left = [step for step in _steps(history) if step not in taken][:1]
        runs = dict.fromkeys(left, "executes")
        edited = tuple(step for step in taken if step in donor.results)
    else:
        reuse.origins = dict(await origins_of(connection.store, row, kept, again=False))
        machine = new_machine(id, definition, _MAX_PAYLOAD)
        asked = _tried(machine, definition, first, reuse)
        runs = {
            one.id: fate(donor.counterfactual, reuse, one) if isinstance(one, RunStep) else "executes"
            for one in asked
            if isinstance(one, RunStep | StartChild)
        }
        taken, edited = reuse.steps, tuple(reuse.edited)
    costs = await _Costs.of(connection, row, history)
    children = {event.child: event.run for event in history if isinstance(event, ev.ChildStarted)}
    ran = set(reuse.children)
    whole = [child for child, run in children.items() if run in ran]
    known = [*_steps(history), *children]
    there = [reuse.moved.get(step, step) for step in taken]  # as the original calls them
    left_out = {*there, *whole, *(step for step in runs if step not in reuse.moved.values())}
    later = [step for step in dict.fromkeys(known) if step not in left_out]
    executed = [step for step, what in runs.items() if what == "executes"]
    return ForkPlan(
        reused=tuple(taken),
        edited=edited,
        runs=tuple(runs),
        later=tuple(later),
        stubbed=tuple(step for step, what in runs.items() if what == "stubbed"),
        refused=tuple(step for step, what in runs.items() if what == "refused"),
        exact=definition is not None,
        saved=costs.usage(
            [old for step, old in zip(taken, there, strict=True) if step not in edited] + whole
        ),
        cost=costs.usage(executed, donor.edits),
        cost_later=costs.usage(later, donor.edits),
    )


def _steps(history: Iterable[ev.Event]) -> list[str]:
    kinds = (ev.StepCompleted, ev.StepFailed, ev.StepStarted)
    return list(dict.fromkeys(event.step for event in history if isinstance(event, kinds)))


def _guessed(kept: Sequence[ev.Event], donor: ev.Donor) -> list[str]:
    """The steps that are taken over, as far as a history tells without the code."""
    done = [event.step for event in kept if isinstance(event, ev.StepCompleted)]
    changed = [edit.steps for edit in donor.edits if edit.result is None]
    return [
        step
        for step in dict.fromkeys([*done, *donor.results])
        if step not in donor.inputs and not any(names(pattern, step) for pattern in changed)
    ]


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


class _Costs:
    """What calls of a run's steps and child runs have used, by op id."""

    def __init__(self, used: Mapping[str, Sequence[Used]], children: Mapping[str, Sums]) -> None:
        self._used = used
        self._children = children
        self._by_name: dict[str, list[Sequence[Used]]] = defaultdict(list)
        for step, calls in used.items():
            self._by_name[operation_name(step)].append(calls)

    @classmethod
    async def of(cls, connection: Connection, row: RunRow, history: Sequence[ev.Event]) -> _Costs:
        ledger = connection.store.ledger
        used: dict[str, list[Used]] = defaultdict(list)
        for entry in await ledger.entries(row.run):
            if entry.state in (EntryState.SPENT, EntryState.REUSED):
                used[entry.step].append(entry.used)
        children: dict[str, Sums] = {}
        if used or (await ledger.report(Query(run=row.id)))[0].sums != Sums():
            for event in history:
                if isinstance(event, ev.ChildStarted):
                    (line,) = await ledger.report(Query(run=event.run))
                    children[event.child] = line.sums
        return cls(used, children)

    def usage(self, ids: Iterable[str], edits: Sequence[Edit] = ()) -> Usage:
        """The sum of these steps and child runs; of a step that wasn't there, what others of its name have used."""
        sums = Sums()
        for id in ids:
            if id in self._children:
                _add(sums, self._children[id])
                continue
            model = _model_of(edits, id)
            for used in self._calls(id):
                call = used
                if model is not None and used.model != model:
                    call = priced(msgspec.structs.replace(used, model=model, provider=None, cost=None))
                sums.spent(call)
                sums.unpriced += call.cost is None
        return usage_of(sums)

    def _calls(self, id: str) -> Sequence[Used]:
        if id in self._used:
            return self._used[id]
        others = self._by_name.get(operation_name(id))
        return others[-1] if others else ()


def _add(sums: Sums, more: Sums) -> None:
    for name in ("calls", "input", "output", "cached", "written", "reasoning", "cost", "unpriced"):
        setattr(sums, name, getattr(sums, name) + getattr(more, name))


def _model_of(edits: Sequence[Edit], id: str) -> str | None:
    """The model that edits give to a step's calls, if they name one."""
    found = None
    for edit in edits:
        for path, value in edit.parts:
            if path.rpartition(".")[2] == "model" and names(edit.steps, id):
                given = msgspec.json.decode(value)
                found = given if isinstance(given, str) else found
    return found
