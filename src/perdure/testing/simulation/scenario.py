"""What is simulated: the runs, the workers, and what goes wrong. All of it data, drawn from a seed.

A scenario that failed is kept as JSON, made as small as possible, and simulated again for ever after.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import msgspec

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


class WorkerPlan(msgspec.Struct, frozen=True):
    """One worker, in all of its lives.

    Attributes:
        skew: how its clock is wrong.
        options: of its engine.
    """

    skew: Skew = RIGHT
    options: dict[str, Any] = {}


class RunPlan(msgspec.Struct, frozen=True):
    """One run that a client starts.

    Attributes:
        id: the run's.
        program: what it does.
        at: when it is started.
        waits: seconds before each message that it gets.
        cancel: seconds after its start at which it is cancelled, None for never.
    """

    id: str
    program: Program
    at: float = 0.0
    waits: tuple[float, ...] = ()
    cancel: float | None = None


class Scenario(msgspec.Struct, frozen=True):
    """A simulation.

    Attributes:
        seed: of everything that is drawn while it runs.
        faults: seconds until everything heals.
        rates: how often each kind of fault comes.
        muted: throws of the dice at which nothing may happen.
        lease: of all workers.
        one_machine: the workers see which of the others' processes have ended.
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

    def size(self) -> tuple[int, int]:
        """How large it is, for whoever makes it smaller."""
        return len(msgspec.json.encode(self.runs)) + 200 * len(self.workers), len(self.rates)


def drawn(seed: int) -> Scenario:
    """The scenario of a seed."""
    chance = random.Random(f"scenario {seed}")  # noqa: S311 - a seed must bring the same scenario
    seconds = chance.choice((0.0, 1.0, 4.0, 8.0, _LONGEST))
    kinds = KINDS if chance.random() < 0.5 else chance.sample(KINDS, chance.randint(1, 4))
    skewed = chance.random() < 0.3
    several = chance.choice((1, 1, 2, 2, 3, 3, 4, 6, 10))
    workers = tuple(_worker(chance, skewed=skewed) for _ in range(several))
    runs = tuple(_run(chance, f"r{number}", seconds) for number in range(1, chance.choice((2, 3, 5, 8)) + 1))
    fierce = chance.choice((0.3, 1.0, 1.0, 3.0))
    return Scenario(
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


def _worker(chance: random.Random, *, skewed: bool) -> WorkerPlan:
    options = {
        "evict_after": chance.choice((0.0, 0.3, 60.0)),
        "max_resident": chance.choice((1, 3, 10_000)),
        "concurrency": chance.choice((1, 3, 1000)),
    }
    return WorkerPlan(drawn_skew(chance) if skewed and chance.random() < 0.7 else RIGHT, options)


def _run(chance: random.Random, id: str, seconds: float) -> RunPlan:
    program = Drawing(chance, id).program()
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
    )


def load(path: Path) -> Scenario:
    """A scenario that was kept."""
    return msgspec.json.decode(path.read_bytes(), type=Scenario)


def save(scenario: Scenario, path: Path) -> None:
    """Keep a scenario."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(scenario), indent=1) + b"\n")
