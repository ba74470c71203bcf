"""What is simulated: the runs, the workers, and what goes wrong. All of it data, drawn from a seed (drawing.py).

A scenario that failed is kept as JSON, made as small as possible, and simulated again for ever after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from perdure.core.queues import QueueSettings
from perdure.testing.simulation.clocks import RIGHT, Skew
from perdure.testing.simulation.faults import Weather
from perdure.testing.torture.programs import Program

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
        pauses: seconds after which it is paused, and how long, each time.
        forked: when it has completed, a fork goes on from all that it has done.
        among: it is started together with others of these, by one call, when the first of them is.
    """

    id: str
    program: Program
    at: float = 0.0
    waits: tuple[float, ...] = ()
    cancel: float | None = None
    queue: str | None = None
    key: str | None = None
    priority: int = 0
    pauses: tuple[tuple[float, float], ...] = ()
    forked: bool = False
    among: bool = False


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


class TalkPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run, or an entity, that is called from outside: each call by two clients who don't know of each other.

    Attributes:
        kind: "run" takes updates, "entity" calls.
        calls: seconds after which each call is made.
        at: when the run is started.
    """

    id: str
    kind: str
    calls: tuple[float, ...]
    at: float = 0.0


class SamePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Starts that mean one run while it is live.

    Attributes:
        starts: when each of them comes.
        debounce: seconds for which each of them puts the run off, None for not at all.
        milliseconds: how long a run takes.
    """

    dedup: str
    starts: tuple[float, ...]
    queue: str | None = None
    debounce: float | None = None
    milliseconds: int = 30


class SinglePlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Starts of the workflow of which one run may be live.

    Attributes:
        starts: when each of them comes, and whether it starts this id anew, if its run has ended.
        milliseconds: how long a generation takes.
        more: generations that follow.
        fails: runs fail once, and whoever hears of it lets them go on.
    """

    id: str
    starts: tuple[tuple[float, bool], ...]
    milliseconds: int = 30
    more: int = 0
    fails: bool = False


class BudgetPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A budget, and somebody who raises it when runs wait for it. Amounts in thousandths of a dollar.

    Attributes:
        per: as of a Budget.
        on_exhausted: as of a Budget. Where calls fail, runs do without them.
        looks: seconds between two looks at it.
        spike: above so much in a minute its breaker opens, which somebody closes.
    """

    name: str
    per: str
    cap: int
    raises: int
    on_exhausted: str = "pause"
    looks: float = 0.5
    spike: int | None = None


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


class BlockPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody blocks a rate limit, and may think better of it.

    Attributes:
        limit: its place among those of bounds.py.
        at: when.
        seconds: for how long.
        lifted: seconds after which the block is ended; None for never.
    """

    limit: int
    at: float
    seconds: float
    lifted: float | None = None


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
        talks, sames, singles: who is called from outside; which starts mean one run.
        budgets: of all workers.
        blocks: of rate limits, by people.
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
    talks: tuple[TalkPlan, ...] = ()
    sames: tuple[SamePlan, ...] = ()
    singles: tuple[SinglePlan, ...] = ()
    budgets: tuple[BudgetPlan, ...] = ()
    blocks: tuple[BlockPlan, ...] = ()

    def size(self) -> tuple[int, int]:
        """How large it is, for whoever makes it smaller."""
        size = len(msgspec.json.encode(msgspec.structs.replace(self, rates={}, workers=(), muted=())))
        return size + 200 * len(self.workers), len(self.rates)


def load(path: Path) -> Scenario:
    """A scenario that was kept."""
    return msgspec.json.decode(path.read_bytes(), type=Scenario)


def save(scenario: Scenario, path: Path) -> None:
    """Keep a scenario."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(scenario), indent=1) + b"\n")
