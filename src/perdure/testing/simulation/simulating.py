"""One simulation, from its scenario to what came of it."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import sys
import warnings
from collections import Counter
from collections.abc import Generator, Iterable
from hashlib import blake2b
from typing import Final

import msgspec

from perdure.storage.chance import chance
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.client import Client
from perdure.testing.simulation.clocks import RIGHT, clock_of
from perdure.testing.simulation.drawing import drawn
from perdure.testing.simulation.faults import Dice
from perdure.testing.simulation.instructions import defined
from perdure.testing.simulation.network import DistantStore, Line
from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.processes import Faraway, Fleet, SimulatedEngine, budgets_of
from perdure.testing.simulation.rules.all import Rules
from perdure.testing.simulation.scenario import Scenario
from perdure.testing.simulation.world import World
from perdure.testing.torture import workshop
from perdure.testing.torture.programs import instructions

#: Virtual seconds after the healing within which everything has to end.
PATIENCE: Final = 300.0


class Outcome(msgspec.Struct, frozen=True):
    """What came of a simulation.

    Attributes:
        violations: what must never be, and was. Empty if all is well.
        counts: what happened how often.
        faults: how often each kind of fault came.
        thrown: the throws of the dice that brought one.
        log: all that happened, line by line.
        digest: of the log.
        seconds: of virtual time.
    """

    violations: list[str]
    counts: Counter[str]
    faults: Counter[str]
    thrown: dict[int, str]
    log: list[str]
    digest: str
    seconds: float


def simulate(scenario: Scenario, *, hasty: bool = False) -> Outcome:
    """Run a scenario. The same one always does the same.

    Args:
        hasty: it is over when anything is wrong.
    """
    with _alone(), chance.seeded(random.Random(f"engine {scenario.seed}")):  # noqa: S311 - it is to repeat
        return _simulated(scenario, hasty)  # nothing of the simulation is left when this has returned


def _simulated(scenario: Scenario, hasty: bool) -> Outcome:
    with defined(scenario.queues, subscribers=_publishes(scenario)):
        simulation = _Simulation(scenario, hasty)
        with simulation.watched():
            simulation.run()
        return simulation.outcome()


def _publishes(scenario: Scenario) -> bool:
    """Whether anything is published that starts runs."""
    found = (kind for plan in scenario.runs for kind, _, _ in instructions(plan.program))
    return bool(scenario.published) or "publishes" in found


class _Simulation:
    def __init__(self, scenario: Scenario, hasty: bool) -> None:
        self._hasty = hasty
        draw = random.Random(f"world {scenario.seed}")  # noqa: S311 - it is to repeat
        sources = [random.Random(draw.getrandbits(64)) for _ in range(4)]  # noqa: S311
        self.scenario = scenario
        self.world = World(sources[0])
        self.observer = Observer(self.world)
        self.books = SimulatedBooks(self.world, self.observer)
        self.rules = Rules(self.observer, self.books)
        self.dice = Dice(sources[1], scenario.rates, frozenset(scenario.muted))
        self.database = self.world.process("database")
        self.fleet = Fleet(scenario, self.world, self.database, self.observer, self.dice, sources[2])
        loop = self.world.process("client")
        line = Line(
            loop, self.database, self.dice, scenario.weather, sources[3], kill=None, observer=self.observer
        )
        store = DistantStore(self.observer.database, line)
        clock = clock_of(RIGHT, loop.time, sources[3])
        self.client = Client(
            lambda: SimulatedEngine(
                store,
                loop,
                clock,
                Faraway(loop, self.fleet.alive),
                scenario.lease,
                worker=False,
                budgets=budgets_of(scenario),
            ),
            self.observer,
            self.rules,
            self.books,
            scenario,
        )
        for process in (self.database, loop):
            process.complaint = lambda context: self.observer.wrong(
                f"{context.get('message')}: {context.get('exception')!r}"
            )
        self._task = loop.create_task(self.client.work())

    @contextlib.contextmanager
    def watched(self) -> Generator[None, None, None]:
        """Keep the books of this simulation, and hear what the engine complains of."""
        books, workshop.books = workshop.books, self.books
        ears = _Ears(self.observer)
        logger = logging.getLogger("perdure")
        logger.addHandler(ears)
        try:
            yield
        finally:
            workshop.books = books
            logger.removeHandler(ears)

    def run(self) -> None:
        """Everything, in virtual time."""
        self.fleet.begin()
        if self.scenario.faults:
            self.world.run(self._is_over, self.scenario.faults)
        self.fleet.heal()
        self.world.run(self._is_over, self.scenario.faults + PATIENCE)
        if not (self._hasty and self.observer.violations):
            self._look_for_stuck()
        self.observer.look_back()
        self.fleet.bury_everything()
        self.world.end()

    def _is_over(self) -> bool:
        if self._hasty and self.observer.violations:
            return True
        if self.client.pending and not self._task.done():
            return False
        if not all(rule.is_at_rest() for rule in self.observer.rules):
            return False
        return all(run.ended for run in self.observer.database.runs.values())

    def _look_for_stuck(self) -> None:
        for run in self.observer.database.runs.values():
            if not run.ended:
                self.observer.wrong(
                    f"run {run.id} sticks after {len(run.events)} events: {run.status}, {run.reason or 'no reason'}, "
                    f"owner {run.owner}, due {run.wake_at}, {len(run.inbox)} in its inbox"
                )
        for id in self.client.pending:
            self.observer.wrong(f"the client waits for {id}")
        for rule in self.observer.rules:
            if not rule.is_at_rest():
                self.observer.wrong(f"{type(rule).__name__}: something is under way for ever")
        if self._task.done() and (error := self._task.exception()) is not None:
            self.observer.wrong(f"the client failed: {error!r}")

    def outcome(self) -> Outcome:
        """What came of it."""
        observer = self.observer
        text = "\n".join(observer.log)
        counts = observer.counts + Counter({"programs": len(self.scenario.runs), "turns": self.world.turns})
        return Outcome(
            violations=observer.violations,
            counts=counts,
            faults=self.dice.hits,
            thrown=self.dice.thrown,
            log=observer.log,
            digest=blake2b(text.encode(), digest_size=16).hexdigest(),
            seconds=self.world.now,
        )


class _Ears(logging.Handler):
    """Hears what the engine logs: what it calls critical is its own error."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(logging.WARNING)
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        if record.levelno >= logging.CRITICAL:
            self._observer.wrong(text)
        else:
            self._observer.tell(f"{record.levelname.lower()}: {text}")


@contextlib.contextmanager
def _alone() -> Generator[None, None, None]:
    """Collections of garbage come at no moment that a seed knows of: there are none before the end.

    What is unwound then is of processes that are no more, and what that complains of, or logs, concerns nobody.
    """
    collecting, hook = gc.isenabled(), sys.unraisablehook
    gc.disable()
    gc.freeze()  # what was there before isn't looked through each time
    sys.unraisablehook = _ignored
    logger, silence = logging.getLogger("perdure"), logging.NullHandler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(silence)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
            gc.collect()
    finally:
        logger.removeHandler(silence)
        logger.setLevel(level)
        logger.propagate = propagate
        sys.unraisablehook = hook
        gc.unfreeze()
        if collecting:
            gc.enable()


def _ignored(unraisable: object) -> None:
    pass


def simulated(seeds: Iterable[int]) -> list[tuple[int, Outcome]]:
    """In a process of the pool: some seeds, without their logs."""
    found: list[tuple[int, Outcome]] = []
    for seed in seeds:
        outcome = simulate(drawn(seed))
        outcome.log.clear()
        found.append((seed, outcome))
    return found
