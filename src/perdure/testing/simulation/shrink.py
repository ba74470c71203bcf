"""Makes a scenario that fails small: what isn't needed for the failure is left out, piece by piece.

A change that is kept leaves the scenario failing in the same way. Changes are tried in the order in which a reader
wants to be rid of it: whole kinds of faults, runs, workers, instructions, single faults.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from perdure.testing.simulation.clocks import RIGHT
from perdure.testing.simulation.scenario import RunPlan, Scenario, WorkerPlan
from perdure.testing.simulation.simulating import Outcome, simulate
from perdure.testing.torture.programs import Program

_replace = msgspec.structs.replace

#: What a scenario has beside its runs and workers.
_BESIDES = ("holds", "schedules", "published", "talks", "sames", "singles", "budgets")


def shrunk(
    scenario: Scenario, *, tries: int = 300, run: Callable[[Scenario], Outcome] = simulate
) -> Scenario:
    """A small scenario that fails as this one does.

    Args:
        tries: simulations at most.
    """
    kind = kind_of(run(scenario))
    assert kind is not None, "only a scenario that fails can be made smaller"
    left = tries
    while True:
        for smaller in _smaller(scenario, run(scenario)):
            if left == 0:
                return scenario
            left -= 1
            if kind_of(run(smaller)) == kind:
                scenario = smaller
                break
        else:
            return scenario


def kind_of(outcome: Outcome) -> str | None:
    """In which way it failed: its first violation without names and numbers."""
    if not outcome.violations:
        return None
    return re.sub(r"\S*\d\S*", "_", outcome.violations[0])[:80]


def _smaller(scenario: Scenario, outcome: Outcome) -> Iterator[Scenario]:
    """Scenarios with less in them."""
    for kind in scenario.rates:
        yield _replace(scenario, rates={name: rate for name, rate in scenario.rates.items() if name != kind})
    for number in range(len(scenario.runs)):
        if len(scenario.runs) > 1:
            yield _replace(scenario, runs=_without(scenario.runs, number))
    for field in _BESIDES:
        items = getattr(scenario, field)
        for number in range(len(items)):
            yield _replace(scenario, **{field: _without(items, number)})
    for name in scenario.queues:
        plans: tuple[Any, ...] = (*scenario.runs, *scenario.sames, *scenario.holds)
        if all(plan.queue != name for plan in plans):
            yield _replace(
                scenario, queues={other: limits for other, limits in scenario.queues.items() if other != name}
            )
    for number in range(len(scenario.workers)):
        if len(scenario.workers) > 1:
            yield _replace(scenario, workers=_without(scenario.workers, number))
    for number, worker in enumerate(scenario.workers):
        if worker.skew != RIGHT:
            yield _replace(
                scenario, workers=_with(scenario.workers, number, WorkerPlan(RIGHT, worker.options))
            )
        if worker.options:
            yield _replace(scenario, workers=_with(scenario.workers, number, WorkerPlan(worker.skew)))
    for number, plan in enumerate(scenario.runs):
        for program in _programs(plan.program):
            yield _replace(scenario, runs=_with(scenario.runs, number, _replace(plan, program=program)))
        for field, nothing in (("pauses", ()), ("forked", False), ("among", False)):
            if getattr(plan, field) != nothing:
                without = _replace(plan, **{field: nothing})
                yield _replace(scenario, runs=_with(scenario.runs, number, without))
        if plan.at:
            yield _replace(scenario, runs=_with(scenario.runs, number, _replace(plan, at=0.0)))
    yield from _with_fewer_faults(scenario, outcome)


def _with_fewer_faults(scenario: Scenario, outcome: Outcome) -> Iterator[Scenario]:
    """Half of the faults left out, a quarter, ... and each by itself."""
    thrown = sorted(outcome.thrown)
    size = len(thrown) // 2
    while size >= 1:
        for start in range(0, len(thrown), size):
            muted = {*scenario.muted, *thrown[start : start + size]}
            yield _replace(scenario, muted=tuple(sorted(muted)))
        size //= 2
    if scenario.faults and not thrown:
        yield _replace(scenario, faults=0.0, rates={}, muted=())


def _programs(program: Program) -> Iterator[Program]:
    """Programs with an instruction less, in the parts of this one, too."""
    for number, (kind, tag, more) in enumerate(program):
        yield [*program[:number], *program[number + 1 :]]
        match kind:
            case "child" | "failing child" | "next" | "tidy":
                for part in _programs(more):
                    yield [*program[:number], [kind, tag, part], *program[number + 1 :]]
            case "queued":
                queue, key, whole = more
                for part in _programs(whole):
                    yield [*program[:number], [kind, tag, [queue, key, part]], *program[number + 1 :]]
            case "together":
                for place, part in enumerate(more):
                    for smaller in _programs(part):
                        parts = [*more[:place], smaller, *more[place + 1 :]]
                        yield [*program[:number], [kind, tag, parts], *program[number + 1 :]]
            case _:
                pass


def _without(items: tuple[Any, ...], number: int) -> tuple[Any, ...]:
    return (*items[:number], *items[number + 1 :])


def _with(items: tuple[Any, ...], number: int, item: RunPlan | WorkerPlan) -> tuple[Any, ...]:
    return (*items[:number], item, *items[number + 1 :])
