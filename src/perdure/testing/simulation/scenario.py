"""What is simulated: the runs, the workers, and what goes wrong. All of it data, drawn from a seed.

A scenario that failed is kept as JSON, made as small as possible, and simulated again for ever after.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.core.queues import QueueSettings
from perdure.core.rates import Rate
from perdure.core.schedules import Overlap
from perdure.testing.simulation.clocks import RIGHT, Skew, drawn_skew
from perdure.testing.simulation.faults import KINDS, Weather
from perdure.testing.torture.programs import Drawing, Program

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
THEMES: Final = ("queues", "steps", "events", "callbacks", "schedules", "streams")
_ENDLESS: Final = "elsewhere given up"
_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "queues": ("queued",),
    "steps": ("elsewhere", "elsewhere flaky", "elsewhere fails", _ENDLESS),
    "events": ("hears", "follows", "publishes"),
    "callbacks": ("promised",),
    "streams": ("emits", "puts out"),
}

ELSEWHERE: Final = "perdure.simulation.steps"  #: the queue of steps


class WorkerPlan(msgspec.Struct, frozen=True):
    """One worker, in all of its lives.

    Attributes:
        skew: how its clock is wrong.
        options: of its engine.
    """

    skew: Skew = RIGHT
    options: dict[str, Any] = {}


class RunPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run that a client starts.

    Attributes:
        id: the run's.
        program: what it does.
        at: when it is started.
        waits: seconds before each message that it gets.
        cancel: seconds after its start at which it is cancelled, None for never.
        queue, key, priority: where it stands in line; by default in no line.
    """

    id: str
    program: Program
    at: float = 0.0
    waits: tuple[float, ...] = ()
    cancel: float | None = None
    queue: str | None = None
    key: str | None = None
    priority: int = 0


class SchedulePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A schedule that a client makes, and pauses for good when nothing has gone wrong for a while.

    Attributes:
        options: how it is made.
        at: when it is made.
        pauses: seconds after which it is paused, and how long; None for never.
        milliseconds: how long its runs take.
    """

    name: str
    options: dict[str, Any]
    at: float = 0.0
    pauses: tuple[float, float] | None = None
    milliseconds: int = 30


class HoldPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody holds a queue for a while.

    Attributes:
        how: "pause" or "drain".
        at: when.
        seconds: how long.
    """

    queue: str
    how: str
    at: float
    seconds: float


class Scenario(msgspec.Struct, frozen=True):
    """A simulation.

    Attributes:
        seed: of everything that is drawn while it runs.
        faults: seconds until everything heals.
        rates: how often each kind of fault comes.
        muted: throws of the dice at which nothing may happen.
        lease: of all workers.
        one_machine: the workers see which of the others' processes have ended.
        queues: those with limits, by name.
        holds: of them.
        published: when the client publishes events that start runs.
    """

    seed: int
    runs: tuple[RunPlan, ...]
    workers: tuple[WorkerPlan, ...] = (WorkerPlan(),)
    faults: float = 0.0
    rates: dict[str, float] = {}
    muted: tuple[int, ...] = ()
    weather: Weather = Weather()
    lease: float = 2.0
    one_machine: bool = True
    queues: dict[str, QueueSettings] = {}
    holds: tuple[HoldPlan, ...] = ()
    schedules: tuple[SchedulePlan, ...] = ()
    published: tuple[float, ...] = ()

    def size(self) -> tuple[int, int]:
        """How large it is, for whoever makes it smaller."""
        beside = msgspec.json.encode((self.runs, self.queues, self.holds, self.schedules, self.published))
        return len(beside) + 200 * len(self.workers), len(self.rates)


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
        # Sent steps that go on until they are given up fill workers with little room for ever, as they should.
        self._roomy = chance.random() < 0.5
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

    def into(self, scenario: Scenario) -> Scenario:
        """The scenario with all of it."""
        chance, seconds = self._chance, scenario.faults
        queues = dict(self.queues)
        if "steps" in self._themes and not self._roomy:
            queues[ELSEWHERE] = QueueSettings(concurrency=chance.choice((1, 2, 5)))
        served = ("default", ELSEWHERE, *sorted(self.queues))
        roomy = {"concurrency": 1000} if self._roomy and "steps" in self._themes else {}
        workers = tuple(
            msgspec.structs.replace(
                worker,
                options={**worker.options, **roomy, "queues": self._served(served, first=not number)},
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
        return msgspec.structs.replace(
            scenario,
            workers=workers if self._themes else scenario.workers,
            queues=queues,
            holds=tuple(holds),
            schedules=tuple(self._schedule(number, seconds) for number in range(1, chance.randint(1, 3) + 1))
            if "schedules" in self._themes
            else (),
            published=tuple(chance.uniform(0.0, seconds / 2 + 1.0) for _ in range(chance.randint(1, 12)))
            if "events" in self._themes
            else (),
        )

    def _served(self, queues: tuple[str, ...], *, first: bool) -> tuple[str, ...]:
        """Which queues a worker serves: the first one all of them."""
        if first or self._chance.random() < 0.5:
            return queues
        return ("default", *(name for name in queues[1:] if self._chance.random() < 0.5))

    def _schedule(self, number: int, seconds: float) -> SchedulePlan:
        chance = self._chance
        timing: dict[str, Any] = chance.choice(
            ({"every": 0.5}, {"every": 1.7}, {"cron": "*/1 * * * * *"}, {"cron": "*/3 * * * * *"})
        )
        return SchedulePlan(
            f"s{number}",
            {**timing, "overlap": chance.choice([*Overlap]).value, "jitter": chance.choice((0.0, 0.0, 0.4))},
            at=chance.uniform(0.0, seconds / 2),
            pauses=(chance.uniform(0.5, 4.0), chance.uniform(0.5, 3.0)) if chance.random() < 0.3 else None,
            milliseconds=chance.choice((1, 30, 400, 2500)),
        )


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
    )


def load(path: Path) -> Scenario:
    """A scenario that was kept."""
    return msgspec.json.decode(path.read_bytes(), type=Scenario)


def save(scenario: Scenario, path: Path) -> None:
    """Keep a scenario."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(scenario), indent=1) + b"\n")
