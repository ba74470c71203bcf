"""The scenario of a seed: what is drawn, and how often."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.core.schedules import Overlap
from perdure.testing.simulation.clocks import RIGHT, drawn_skew
from perdure.testing.simulation.faults import KINDS, Weather
from perdure.testing.simulation.scenario import (
    ELSEWHERE,
    BlockPlan,
    BudgetPlan,
    HoldPlan,
    RunPlan,
    SamePlan,
    Scenario,
    SchedulePlan,
    SinglePlan,
    TalkPlan,
    WorkerPlan,
)
from perdure.testing.torture.programs import Drawing, Program, instructions

#: How often faults come, in seeds that have them: at each verb, at each process each second, at each hint.
_RATES: Final = {
    "drop": 0.02,
    "slow": 0.02,
    "doubt": 0.03,
    "lie": 0.03,
    "die before": 0.004,
    "die after": 0.004,
    "freeze": 0.004,
    "kill": 0.05,
    "stop": 0.05,
    "leave": 0.03,
    "bury": 0.03,
    "cut off": 0.04,
    "lose hint": 0.3,
    "late hint": 0.3,
}

#: Tried again by everything that a worker does, a fault costs seconds; so only so many seconds of them.
_LONGEST: Final = 12.0

#: What of the engine a scenario may use besides programs of steps, timers, children and messages.
THEMES: Final = (
    "queues",
    "steps",
    "events",
    "callbacks",
    "schedules",
    "streams",
    "calls",
    "dedups",
    "pauses",
    "forks",
    "limits",
    "budgets",
    "questions",
    "troubles",
    "singletons",
)
_DONE_ANEW: Final = (
    "fails",
    "mostly",
    "failing child",
    "give up",
    "called off",
    "elsewhere fails",
    "elsewhere given up",
    "publishes",
    "promised",
    "next",
    "asks",
    "limited given up",
)
_ENDLESS: Final = "elsewhere given up"
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "queues": ("queued",),
    "steps": ("elsewhere", "elsewhere flaky", "elsewhere fails", _ENDLESS),
    "events": ("hears", "follows", "publishes"),
    "callbacks": ("promised",),
    "streams": ("emits", "puts out"),
    "limits": ("limited", "limited", "turned away", "limited given up"),
    "budgets": ("pays",),
    "questions": ("asks", "approved"),
    "troubles": ("breaks", "doubtful", "used up"),
}


def drawn(seed: int, themes: Sequence[str] | None = None) -> Scenario:
    """The scenario of a seed.

    Args:
        themes: what it uses of the engine besides programs (see THEMES), if that isn't to be drawn.
    """
    chance = random.Random(f"scenario {seed}")  # noqa: S311 - a seed must bring the same scenario
    more = More(random.Random(f"more {seed}"), themes)  # noqa: S311
    seconds = chance.choice((0.0, 1.0, 4.0, 8.0, _LONGEST))
    kinds = KINDS if chance.random() < 0.5 else chance.sample(KINDS, chance.randint(1, 4))
    skewed = chance.random() < 0.3
    several = chance.choice((1, 1, 2, 2, 3, 3, 4, 6, 10))
    workers = tuple(_worker(chance, skewed=skewed) for _ in range(several))
    runs = tuple(
        _run(chance, f"r{number}", seconds, more) for number in range(1, chance.choice((2, 3, 5, 8)) + 1)
    )
    fierce = chance.choice((0.3, 1.0, 1.0, 3.0))
    scenario = Scenario(
        seed=seed,
        runs=runs,
        workers=workers,
        faults=seconds,
        one_machine=chance.random() < 0.5,
        rates={kind: min(0.5, _RATES[kind] * fierce) for kind in kinds} if seconds else {},
        weather=Weather(
            latency=chance.choice((0.0, 0.0005, 0.005, 0.05)),
            ordered=chance.random() < 0.5,
            patience=chance.choice((0.05, 0.5, 3.0)),
            slow=chance.choice((0.2, 1.0, 5.0)),
        ),
    )
    return more.into(scenario)


class More:
    """What a scenario has besides: it is drawn apart, so that others of the seed's draws don't depend on it.

    Attributes:
        kinds: of instructions.
        queues: their limits, by name.
        among: runs are started together.
    """

    def __init__(self, chance: random.Random, themes: Sequence[str] | None) -> None:
        self._chance = chance
        self.queues: dict[str, QueueSettings] = {}
        many = 0 if chance.random() < 0.3 else chance.choice((1, 1, 2, 3))
        self._themes = chance.sample(THEMES, many) if themes is None else list(themes)
        if "queues" in self._themes:
            self.queues = {f"q{number}": self._limits() for number in range(1, chance.choice((1, 1, 2)) + 1)}
        self.kinds = [kind for theme in self._themes for kind in _KINDS.get(theme, ())]
        if "queued" in self.kinds and not self.queues:
            self.kinds.remove("queued")
        # What a run had put out, or was promised, when it failed, its next generation puts out or asks for anew.
        if "breaks" in self.kinds and not {"streams", "callbacks"}.isdisjoint(self._themes):
            self.kinds.remove("breaks")
        # Sent steps that go on until they are given up fill workers with little room for ever, as they should.
        self._roomy = chance.random() < 0.5
        self.among = chance.random() < 0.2
        if not self._roomy and _ENDLESS in self.kinds:
            self.kinds.remove(_ENDLESS)

    def _limits(self) -> QueueSettings:
        chance = self._chance
        limits: dict[str, Any] = {
            "concurrency": chance.choice((1, 1, 2, 3)),
            "per_worker": chance.choice((1, 2)),
            "per_key": 1,
            "rate": Rate(*chance.choice(((2, 1.0), (5, 2.0), (10, 3.0)))),
            "priority": True,
            "fairness": "key",
        }
        named = chance.sample(sorted(limits), chance.randint(1, 3))
        return QueueSettings(**{name: limits[name] for name in named})

    def queue(self) -> str | None:
        """Where a run stands in line, None for the queue without limits."""
        return (
            self._chance.choice(sorted(self.queues)) if self.queues and self._chance.random() < 0.7 else None
        )

    def key(self) -> str | None:
        return self._chance.choice((None, "a", "b", "c"))

    def priority(self) -> int:
        return self._chance.choice((0, 0, 1, 5))

    def pauses(self) -> tuple[tuple[float, float], ...]:
        """When a run is paused, and for how long."""
        chance = self._chance
        if "pauses" not in self._themes or chance.random() < 0.4:
            return ()
        return tuple(
            (chance.uniform(0.0, 0.7), chance.uniform(0.05, 2.0)) for _ in range(chance.randint(1, 3))
        )

    def forked(self, program: Program) -> bool:
        """Whether a run is forked: what fails, and what is given up, a fork does anew, as it should."""
        alone = {kind for kind, _, _ in instructions(program)}.isdisjoint(_DONE_ANEW)
        return "forks" in self._themes and alone and self._chance.random() < 0.7

    def into(self, scenario: Scenario) -> Scenario:
        """The scenario with all of it."""
        chance, seconds = self._chance, scenario.faults
        queues = dict(self.queues)
        if "steps" in self._themes and not self._roomy:
            queues[ELSEWHERE] = QueueSettings(concurrency=chance.choice((1, 2, 5)))
        served = ("default", ELSEWHERE, *sorted(self.queues))
        # Of workers whose clocks differ by more than a lease only the fastest is never held for dead.
        differ = any(worker.skew != RIGHT for worker in scenario.workers)
        roomy = {"concurrency": 1000} if self._roomy and "steps" in self._themes else {}
        workers = tuple(
            msgspec.structs.replace(
                worker,
                options={
                    **worker.options,
                    **roomy,
                    "queues": self._served(served, every=differ or not number),
                },
            )
            for number, worker in enumerate(scenario.workers)
        )
        holds = [
            HoldPlan(
                name,
                chance.choice(("pause", "drain")),
                chance.uniform(0.0, seconds + 1.0),
                chance.uniform(0.2, 3.0),
            )
            for name in sorted(self.queues)
            if chance.random() < 0.3
        ]
        budgets = self._budgets() if "budgets" in self._themes else ()
        fails = any(plan.on_exhausted == "fail" for plan in budgets)
        return msgspec.structs.replace(
            scenario,
            runs=tuple(map(_unforked, scenario.runs)) if fails else scenario.runs,
            workers=workers if self._themes else scenario.workers,
            queues=queues,
            holds=tuple(holds),
            schedules=tuple(self._schedule(number, seconds) for number in range(1, chance.randint(1, 3) + 1))
            if "schedules" in self._themes
            else (),
            published=tuple(chance.uniform(0.0, seconds / 2 + 1.0) for _ in range(chance.randint(1, 12)))
            if "events" in self._themes
            else (),
            talks=tuple(self._talk(number, seconds) for number in range(1, chance.randint(1, 4) + 1))
            if "calls" in self._themes
            else (),
            sames=tuple(self._same(number, seconds) for number in range(1, chance.randint(1, 3) + 1))
            if "dedups" in self._themes
            else (),
            singles=tuple(self._single(number, seconds) for number in range(1, chance.randint(1, 2) + 1))
            if "singletons" in self._themes
            else (),
            budgets=budgets,
            blocks=self._blocks(seconds) if "limits" in self._themes else (),
        )

    def _blocks(self, seconds: float) -> tuple[BlockPlan, ...]:
        """People block limits, each at most one of them."""
        chance = self._chance
        return tuple(
            BlockPlan(
                limit,
                chance.uniform(0.0, seconds / 2 + 2.0),
                chance.choice((0.2, 1.0, 8.0)),
                chance.choice((None, 0.1, 0.5)),
            )
            for limit in range(3)
            if chance.random() < 0.4
        )

    def _single(self, number: int, seconds: float) -> SinglePlan:
        chance = self._chance
        starts = tuple(
            (chance.uniform(0.0, seconds / 2 + 1.0), chance.random() < 0.4)
            for _ in range(chance.randint(2, 7))
        )
        return SinglePlan(
            f"u{number}",
            starts,
            chance.choice((1, 50, 500)),
            chance.choice((0, 0, 1, 2)),
            chance.random() < 0.4,
        )

    def _budgets(self) -> tuple[BudgetPlan, ...]:
        chance = self._chance
        plans = (
            BudgetPlan(
                "each",
                "run",
                chance.choice((300, 600, 1500)),
                chance.choice((300, 1000)),
                chance.choice(("pause", "ask", "fail")),
                chance.choice((0.1, 0.5, 2.0)),
                chance.choice((None, None, 400, 700)),
            ),
            BudgetPlan(
                "all",
                "day",
                chance.choice((300, 1000, 3000)),
                chance.choice((300, 2000)),
                looks=0.3,
                spike=chance.choice((None, None, 500, 1500)),
            ),
        )
        return chance.choice((plans, plans[:1], plans[1:]))

    def _talk(self, number: int, seconds: float) -> TalkPlan:
        chance = self._chance
        calls = tuple(chance.uniform(0.0, seconds / 2 + 0.5) for _ in range(chance.randint(1, 6)))
        return TalkPlan(
            f"t{number}", chance.choice(("run", "entity")), calls, chance.uniform(0.0, seconds / 2)
        )

    def _same(self, number: int, seconds: float) -> SamePlan:
        chance = self._chance
        return SamePlan(
            f"d{number}",
            tuple(chance.uniform(0.0, seconds / 2 + 1.0) for _ in range(chance.randint(2, 8))),
            chance.choice((None, *sorted(self.queues))),
            chance.choice((None, 0.1, 0.5)),
            chance.choice((1, 50, 500)),
        )

    def _served(self, queues: tuple[str, ...], *, every: bool) -> tuple[str, ...]:
        """Which queues a worker serves."""
        if every or self._chance.random() < 0.5:
            return queues
        return ("default", *(name for name in queues[1:] if self._chance.random() < 0.5))

    def _schedule(self, number: int, seconds: float) -> SchedulePlan:
        chance = self._chance
        timing: dict[str, Any] = chance.choice(
            ({"every": 0.5}, {"every": 1.7}, {"cron": "*/1 * * * * *"}, {"cron": "*/3 * * * * *"})
        )
        overlap = chance.choice([*Overlap]).value  # what piles up has to be done in the end
        return SchedulePlan(
            f"s{number}",
            {**timing, "overlap": overlap, "jitter": chance.choice((0.0, 0.0, 0.4))},
            at=chance.uniform(0.0, seconds / 2),
            pauses=(chance.uniform(0.5, 4.0), chance.uniform(0.5, 3.0)) if chance.random() < 0.3 else None,
            milliseconds=chance.choice((1, 30, 100, 100) if overlap == "allow" else (1, 30, 400, 2500)),
        )


def _unforked(plan: RunPlan) -> RunPlan:
    """What a run has had no money for, its fork does."""
    if all(kind != "pays" for kind, _, _ in instructions(plan.program)):
        return plan
    return msgspec.structs.replace(plan, forked=False)


def _worker(chance: random.Random, *, skewed: bool) -> WorkerPlan:
    options = {
        "evict_after": chance.choice((0.0, 0.3, 60.0)),
        "max_resident": chance.choice((1, 3, 10_000)),
        "concurrency": chance.choice((1, 3, 1000)),
    }
    return WorkerPlan(drawn_skew(chance) if skewed and chance.random() < 0.7 else RIGHT, options)


def _run(chance: random.Random, id: str, seconds: float, more: More) -> RunPlan:
    queue = more.queue()
    program = Drawing(
        chance, id, more=more.kinds, children=queue is None, queues=sorted(more.queues)
    ).program()
    cancel = chance.uniform(0.0, seconds / 2 + 1.0) if chance.random() < 0.2 else None
    if any(kind == "breaks" for kind, _, _ in instructions(program)):
        cancel = None  # of a run that has failed nobody hears a cancellation
    if cancel is not None and chance.random() < 0.4:
        program = [*program[:-1], ["never", f"{id}.never", 0], *program[-1:]]
    if chance.random() < 0.2 and program[-1][0] != "next":
        program = [["tidy", f"{id}.tidy", program]]
    return RunPlan(
        id=id,
        program=program,
        cancel=cancel,
        at=chance.uniform(0.0, seconds / 2),
        waits=tuple(chance.choice((0.0, 0.02, 0.3, 2.0)) for _ in range(4)),
        queue=queue,
        key=more.key() if queue else None,
        priority=more.priority() if queue else 0,
        pauses=more.pauses() if cancel is None else (),
        forked=cancel is None and more.forked(program),
        among=queue is None and more.among,
    )
