"""Simulated workers: each is a real Engine in a simulated process, which is killed, stopped and started again."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Any, Final, cast

from perdure.api.engine import Engine
from perdure.errors import StoreError
from perdure.runtime import collector
from perdure.runtime.budgets import Budget
from perdure.runtime.liveness import Whereabouts
from perdure.storage.chance import chance as process_chance
from perdure.storage.workers import WorkerRow
from perdure.testing.simulation.bounds import dollars
from perdure.testing.simulation.clocks import clock_of
from perdure.testing.simulation.faults import AT_PROCESSES, Dice
from perdure.testing.simulation.network import DistantStore, Line
from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.scenario import Scenario, WorkerPlan
from perdure.testing.simulation.world import ProcessLoop, World

#: Seconds between the throws that decide what happens to a process.
_BETWEEN: Final = 0.5

#: A run that its workers lose, however often, isn't to be protected from them.
_RECOVERIES: Final = 1_000_000


class SimulatedEngine(Engine):
    """An engine in a simulated process: the real one, but for its store, its clocks, and what it knows of processes."""

    def __init__(
        self,
        store: DistantStore,
        loop: ProcessLoop,
        clock: Callable[[], float],
        whereabouts: Whereabouts,
        lease: float,
        *,
        worker: bool,
        **options: Any,
    ) -> None:
        super().__init__(
            "memory:",
            worker=worker,
            lease=lease,
            name=loop.name,
            turn_limit=None,
            max_recoveries=_RECOVERIES,
            version="simulated",
            **options,
        )
        self._settings = dataclasses.replace(
            self._settings, clock=clock, monotonic=loop.time, whereabouts=whereabouts
        )
        self._store: Any = store


def budgets_of(scenario: Scenario) -> list[Budget]:
    """What every engine says of budgets."""
    return [
        Budget(
            usd=dollars(plan.cap),
            per=cast("Any", plan.per),
            on_exhausted=cast("Any", plan.on_exhausted),
            name=plan.name,
            spike=None if plan.spike is None else dollars(plan.spike),
        )
        for plan in scenario.budgets
    ]


class _Whereabouts(Whereabouts):
    """A process of one simulated machine, whose others it can see."""

    def __init__(self, loop: ProcessLoop, alive: Callable[[int], bool]) -> None:
        self._loop = loop
        self._alive = alive

    def host(self) -> str:
        return "simulated"

    def process(self) -> tuple[int, int]:
        return self._loop.number, self._loop.number

    def gone(self, worker: WorkerRow, here: str) -> bool:
        return not self._alive(worker.pid)


class Faraway(_Whereabouts):
    """A process on a machine of its own: of the others it knows what they tell."""

    def host(self) -> str:
        return f"simulated-{self._loop.number}"

    def gone(self, worker: WorkerRow, here: str) -> bool:
        return False


class Fleet:
    """The workers of a simulation, and the hand that hits them.

    Args:
        database: the database's process.
    """

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        database: ProcessLoop,
        observer: Observer,
        dice: Dice,
        chance: random.Random,
    ) -> None:
        self.scenario = scenario
        self.world = world
        self.database = database
        self.observer = observer
        self.dice = dice
        self.chance = chance
        self._fate = world.process("fate")  # where it is decided what happens to the others
        self.workers = [Worker(self, number, plan) for number, plan in enumerate(scenario.workers, 1)]
        observer.clocks_are_right = all(plan.skew.shape == "right" for plan in scenario.workers)
        self._living: set[int] = set()
        self._graves: list[SimulatedEngine] = []  # nothing of the dead is to be collected, and so unwound

    def begin(self) -> None:
        """Start all of them, and the throwing of dice."""
        for worker in self.workers:
            worker.start()
        self._fate.call_later(_BETWEEN, self._throw)

    def heal(self) -> None:
        """No more faults. What is stopped goes on, what is gone comes again."""
        self.dice.over = True
        self.observer.tell("everything heals")
        for worker in self.workers:
            worker.loop.frozen_until = 0.0
            worker.line.cut_until = 0.0

    def _throw(self) -> None:
        for worker in self.workers:
            fate = self.dice.throw(AT_PROCESSES)
            seconds = self.chance.random() * 2 * self.scenario.lease
            if fate is not None and worker.is_up:
                self.observer.tell(f"{worker.loop.name}: {fate}")
                worker.suffer(fate, seconds)
        self._fate.call_later(_BETWEEN, self._throw)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something that no process of the fleet does."""
        self._fate.call_later(seconds, act)

    def alive(self, process: int) -> bool:
        """Whether a process hasn't ended."""
        return process in self._living

    def born(self, loop: ProcessLoop) -> None:
        """A process has begun."""
        self._living.add(loop.number)

    def died(self, loop: ProcessLoop, engine: SimulatedEngine) -> None:
        """A process has ended."""
        self._living.discard(loop.number)
        self._graves.append(engine)
        self.world.forget(loop)

    def bury_everything(self) -> None:
        """The simulation is over: unwind what nobody drives any more, without effect."""
        for worker in self.workers:
            if worker.is_up:
                worker.kill()
        for engine in self._graves:
            if engine._worker is not None:
                for driver in list(engine._worker.drivers.values()):
                    driver._let_go()
                collector.restore()
        self._graves.clear()


class Worker:
    """One worker, in all of its lives."""

    def __init__(self, fleet: Fleet, number: int, plan: WorkerPlan) -> None:
        self._fleet = fleet
        self._number = number
        self._plan = plan
        self._lives = 0
        self.is_up = False
        self.loop: ProcessLoop
        self.line: Line
        self._store: DistantStore
        self._engine: SimulatedEngine
        self._stop: asyncio.Event

    def start(self) -> None:
        """Begin the next life."""
        fleet = self._fleet
        self._lives += 1
        loop = self.loop = fleet.world.process(f"w{self._number}.{self._lives}")
        loop.complaint = self._complain
        self.line = Line(
            loop,
            fleet.database,
            fleet.dice,
            fleet.scenario.weather,
            random.Random(process_chance.getrandbits(64)),  # noqa: S311 - a seed must bring the same
            kill=lambda: self.kill(loop),
            observer=fleet.observer,
        )
        self._store = DistantStore(fleet.observer.database, self.line)
        clock = clock_of(self._plan.skew, loop.time, random.Random(process_chance.getrandbits(64)))  # noqa: S311
        near = fleet.scenario.one_machine
        whereabouts = (_Whereabouts if near else Faraway)(loop, fleet.alive)
        self._engine = SimulatedEngine(
            self._store,
            loop,
            clock,
            whereabouts,
            fleet.scenario.lease,
            worker=True,
            budgets=budgets_of(fleet.scenario),
            **self._plan.options,
        )
        self._stop = asyncio.Event()
        if self._plan.skew.shape != "right":
            fleet.observer.deceived.add(loop.number)
            fleet.observer.wrong_clocks.add(loop.number)
        self.is_up = True
        fleet.born(loop)
        fleet.observer.tell(f"{loop.name} starts as process {loop.number}")
        loop.create_task(self._live(self._engine, self._stop, loop))

    async def _live(self, engine: SimulatedEngine, stop: asyncio.Event, loop: ProcessLoop) -> None:
        try:
            await engine.__aenter__()
            await stop.wait()
            await engine.close()
        except StoreError as error:
            self._fleet.observer.tell(f"{loop.name} can't go on: {type(error).__name__}")
        if not loop.dead:
            self.kill(loop)

    def _complain(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, StoreError):
            self._fleet.observer.wrong(f"{self.loop.name}: {context.get('message')}: {error!r}")

    def kill(self, loop: ProcessLoop | None = None) -> None:
        """End this life at once. Another one begins later.

        Args:
            loop: the life that is meant; nothing happens if it is over already.
        """
        if (loop is not None and loop is not self.loop) or not self.is_up:
            return
        self.is_up = False
        self._fleet.observer.tell(f"{self.loop.name} is gone")
        self.loop.kill()
        self._store.vanish()
        self._fleet.died(self.loop, self._engine)
        self._fleet.later(self._fleet.chance.choice((0.01, 0.5, 2.0)), self.start)

    def suffer(self, fate: str, seconds: float) -> None:
        """Something happens to its process."""
        match fate:
            case "kill":
                self.kill()
            case "stop":
                self.loop.frozen_until = self.loop.world.now + seconds
            case "leave":
                self.loop.call_soon(self._stop.set)
            case "bury":
                self._fleet.observer.deceived.add(self.loop.number)
                self._fleet.database.call_soon(self._bury)
            case _:
                self.line.cut_until = self.loop.world.now + seconds

    def _bury(self) -> None:
        database = self._fleet.observer.database
        for worker, row in list(database.workers.items()):
            if row.pid == self.loop.number:
                self._store.bury_here(worker, row.lease_until)
