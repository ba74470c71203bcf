"""Two runs side by side: `engine.diff`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from perdure.api.connection import Connection
from perdure.api.spending import Usage, usage_of
from perdure.codec.arguments import Arguments
from perdure.core import events as ev
from perdure.core.comparing import ABSENT, Doing, DoingKind, changes, differences, doings, paired
from perdure.core.status import Status
from perdure.core.usage import Sums
from perdure.runtime.definitions import step_named, workflow_named
from perdure.storage.ledger import Query, add_entry
from perdure.storage.records import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A place where two values differ.

    Attributes:
        path: keys of objects and places in arrays, with dots between them; "" is the whole.
        a, b: what each has there, as JSON; None if it has nothing there.
        only: "a" or "b" if the other one has nothing there.
    """

    path: str
    a: Any
    b: Any
    only: Literal["a", "b"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSide:
    """What one run has of a step, a child run, a message or an event.

    Attributes:
        id: its id within the run.
        outcome: "completed", "failed", or another status of a child; "running"; "refused" in a counterfactual run, or
            "decision" if it waits for a person; "sent", "published", "withheld".
        input: by parameter names, as JSON; None if it is larger than what the history keeps.
        result: as JSON.
        error: type and message of what it failed with.
        attempts: how many there were.
        seconds: how long the last attempt, or the child, took; None if nothing was done here.
        reused: it was taken over from another run.
        stubbed: a stub stands in for it.
        usage: what it has spent, as the ledger has it.
        run: the child's run id, or the message's receiver.
    """

    id: str
    outcome: str
    input: Any = None
    result: Any = None
    error: str | None = None
    attempts: int = 0
    seconds: float | None = None
    reused: bool = False
    stubbed: bool = False
    usage: Usage = field(default_factory=Usage)
    run: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDiff:
    """One line of a comparison.

    Attributes:
        kind: what it is: "step", "child", "message" (to another run) or "event" (that was published).
        name: of the step, the child's workflow, the message or the event.
        verdict: whether both runs have it, and in the same way.
        changed: what isn't the same: "input", "outcome", "result".
        input, result: where these differ, as far as both are known.
        a, b: what each run has of it, None if nothing.
    """

    kind: DoingKind
    name: str
    verdict: Literal["same", "changed", "only_a", "only_b"]
    changed: tuple[str, ...] = ()
    input: tuple[Difference, ...] = ()
    result: tuple[Difference, ...] = ()
    a: StepSide | None = None
    b: StepSide | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSide:
    """One of two runs that are compared.

    Attributes:
        input: by parameter names, as JSON.
        result: as JSON; None if there is none.
        error: type and message of what it failed with, or the reason why it was cancelled or terminated.
        seconds: from its start to its end, or to its newest event.
        usage: what it and all that it has started have spent.
    """

    id: str
    generation: int
    workflow: str
    status: Status
    input: Any
    result: Any
    error: str | None
    seconds: float
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """Two runs side by side, from `engine.diff`.

    Attributes:
        a, b: the runs.
        steps: what they have done, in the order of the first run.
        input, result: where their inputs and results differ.
    """

    a: RunSide
    b: RunSide
    steps: tuple[StepDiff, ...]
    input: tuple[Difference, ...]
    result: tuple[Difference, ...]

    @property
    def same(self) -> tuple[StepDiff, ...]:
        """What both have done in the same way."""
        return tuple(step for step in self.steps if step.verdict == "same")

    @property
    def changed(self) -> tuple[StepDiff, ...]:
        """What both have done, and not in the same way."""
        return tuple(step for step in self.steps if step.verdict == "changed")

    @property
    def only_a(self) -> tuple[StepDiff, ...]:
        """What only the first has done."""
        return tuple(step for step in self.steps if step.verdict == "only_a")

    @property
    def only_b(self) -> tuple[StepDiff, ...]:
        """What only the second has done."""
        return tuple(step for step in self.steps if step.verdict == "only_b")


async def compare(
    connection: Connection, a: str, b: str, generations: tuple[int | None, int | None]
) -> RunDiff:
    """See Engine.diff."""
    one = await _Told.of(connection, await connection.generation(a, generations[0]))
    other = await _Told.of(connection, await connection.generation(b, generations[1]))
    steps = [_step(one, other, *pair) for pair in paired(one.doings, other.doings)]
    side_a, side_b = one.side(), other.side()
    return RunDiff(
        a=side_a,
        b=side_b,
        steps=tuple(steps),
        input=_differences(side_a.input, side_b.input),
        result=_differences(side_a.result, side_b.result),
    )


class _Told:
    """All that is known of one run."""

    def __init__(
        self, row: RunRow, history: Sequence[ev.Event], usage: Usage, by_step: dict[str, Usage]
    ) -> None:
        self.row = row
        self.history = history
        self.doings = doings(history)
        self._usage = usage
        self._by_step = by_step

    @classmethod
    async def of(cls, connection: Connection, row: RunRow) -> _Told:
        history = [event async for event in connection.history(row.run)]
        ledger = connection.store.ledger
        (whole,) = await ledger.report(Query(run=row.id))
        by_step: dict[str, Usage] = {}
        if whole.sums != Sums():
            sums: dict[str, Sums] = defaultdict(Sums)
            for entry in await ledger.entries(row.run):
                add_entry(sums[entry.step], entry)
            by_step = {step: usage_of(found) for step, found in sums.items()}
            for event in history:
                if isinstance(event, ev.ChildStarted):
                    (line,) = await ledger.report(Query(run=event.run))
                    by_step[event.child] = usage_of(_spared(line.sums) if event.reused else line.sums)
        return cls(row, history, usage_of(whole.sums), by_step)

    def side(self) -> RunSide:
        started, last = self.history[0], self.history[-1]
        assert isinstance(started, ev.RunStarted)
        known = workflow_named(started.workflow)
        row = self.row
        began = row.started_at or row.created_at
        return RunSide(
            id=row.id,
            generation=row.generation,
            workflow=row.workflow,
            status=Status(row.status),
            input=_named(started.input, None if known is None else known.arguments, bare=False),
            result=_json(last.result) if isinstance(last, ev.RunCompleted) else None,
            error=_error(getattr(last, "failure", None))
            or (row.reason if isinstance(last, ev.FINAL) else None),
            seconds=max(0.0, (row.ended_at or row.updated_at) - began),
            usage=self._usage,
        )

    def step(self, doing: Doing) -> StepSide:
        known = step_named(doing.name) or workflow_named(doing.name)
        plain = doing.kind in ("message", "event")
        given: Any = None
        if doing.input is not None:
            given = (
                _json(doing.input)
                if plain
                else _named(doing.input, None if known is None else known.arguments)
            )
        return StepSide(
            id=doing.id,
            outcome=doing.outcome,
            input=given,
            result=None if doing.result is None else _json(doing.result),
            error=_error(doing.failure),
            attempts=doing.attempts,
            seconds=doing.seconds,
            reused=doing.reused,
            stubbed=doing.stubbed,
            usage=self._by_step.get(doing.id, Usage()),
            run=doing.run or None,
        )


def _spared(spent: Sums) -> Sums:
    """What another run's child has spent, and needn't be spent again."""
    sums = Sums()
    sums.spare(spent.input, spent.output, spent.cost, count=spent.calls, unpriced=spent.unpriced)
    return sums


def _step(one: _Told, other: _Told, a: Doing | None, b: Doing | None) -> StepDiff:
    if a is None or b is None:
        only = a or b
        assert only is not None
        return StepDiff(
            kind=only.kind,
            name=only.name,
            verdict="only_b" if a is None else "only_a",
            a=None if a is None else one.step(a),
            b=None if b is None else other.step(b),
        )
    changed, side_a, side_b = changes(a, b), one.step(a), other.step(b)
    return StepDiff(
        kind=a.kind,
        name=a.name,
        verdict="changed" if changed else "same",
        changed=changed,
        input=_differences(side_a.input, side_b.input) if a.input and b.input else (),
        result=_differences(side_a.result, side_b.result) if a.result and b.result else (),
        a=side_a,
        b=side_b,
    )


def _differences(a: Any, b: Any) -> tuple[Difference, ...]:
    return tuple(_difference(*found) for found in differences(a, b))


def _difference(path: str, a: Any, b: Any) -> Difference:
    only: Literal["a", "b"] | None = "b" if a is ABSENT else "a" if b is ABSENT else None
    return Difference(path=path, a=None if a is ABSENT else a, b=None if b is ABSENT else b, only=only)


def _json(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):  # it may be encrypted
        return data.decode(errors="backslashreplace")


def _named(data: bytes, arguments: Arguments | None, *, bare: bool = True) -> Any:
    """A call's input by parameter names; by numbers where these aren't known, but a single one as it is, if `bare`."""
    try:
        given, named = msgspec.json.decode(data, type=tuple[list[Any], dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError):  # it may be encrypted
        return _json(data)
    if bare and arguments is None and len(given) == 1 and not named:
        return given[0]
    names = () if arguments is None else arguments.positions
    known = dict(zip(names, given, strict=False))
    return {**known, **{str(n): given[n] for n in range(len(known), len(given))}, **named}


def _error(failure: ev.Failure | None) -> str | None:
    return None if failure is None else f"{failure.type.removeprefix('builtins.')}: {failure.message}"
