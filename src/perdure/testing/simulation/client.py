"""The client of a simulation: it starts the runs, talks to them, and compares what comes of them with the model.

It is a process of its own, with an engine that drives nothing. What was acknowledged to it counts; what was refused, as
the database couldn't be reached, it asks for again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from perdure import RunCancelled, RunFailed
from perdure.api.handle import Handle
from perdure.codec.events import decode_event
from perdure.core import events as ev
from perdure.errors import PerdureError, RunEndedError, StoreError
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.callers import Callers
from perdure.testing.simulation.observer import Observer
from perdure.testing.simulation.outsiders import Outsiders
from perdure.testing.simulation.people import People, is_broken
from perdure.testing.simulation.processes import SimulatedEngine
from perdure.testing.simulation.rules.all import Rules
from perdure.testing.simulation.scenario import RunPlan, Scenario
from perdure.testing.simulation.trouble import WITH_LEAVE
from perdure.testing.torture.programs import Program, expected, messages, tally, value_of
from perdure.testing.torture.workshop import runs

T = TypeVar("T")

_PAUSE: Final = 0.2  #: seconds after a refusal
_FAILURES: Final = (
    "builtins.ValueError",
    "perdure.errors.BudgetExceeded",
)  #: of steps that are to fail


class Client:
    """Carries out the client's part of a scenario.

    Args:
        engine: makes its engine; another one when the first couldn't be entered.
        rules: are told what was acknowledged.

    Attributes:
        pending: the ids of the runs whose end it hasn't heard of yet, and what else it is at.
    """

    _engine: SimulatedEngine

    def __init__(
        self,
        engine: Callable[[], SimulatedEngine],
        observer: Observer,
        rules: Rules,
        books: SimulatedBooks,
        scenario: Scenario,
    ) -> None:
        self._make = engine
        self._observer = observer
        self._rules = rules
        self._books = books
        self._scenario = scenario
        self.pending = {plan.id: None for plan in scenario.runs}
        self._outsiders: Outsiders
        self._callers: Callers
        self._people: People
        self._together: asyncio.Task[dict[str, Handle[int]]]

    async def work(self) -> None:
        """Do all of it."""
        await self._insist(self._enter)
        scenario, loop = self._scenario, asyncio.get_running_loop()
        self._outsiders = Outsiders(self._engine, self._rules, self._books, self._insist, scenario.faults)
        self._callers = Callers(self._engine, self._rules, self._books, self._insist)
        self._people = People(self._engine, self._rules, self._books, self._insist, self.pending)
        among = [plan for plan in scenario.runs if plan.among]
        if among:
            self._together = loop.create_task(self._start_together(among))
        await asyncio.gather(
            *map(self._one, scenario.runs),
            *(self._other(f"queue {plan.queue}", self._outsiders.hold(plan)) for plan in scenario.holds),
            *(
                self._other(f"schedule {plan.name}", self._outsiders.schedule(plan, loop.time))
                for plan in scenario.schedules
            ),
            *(
                self._other(f"event {number}", self._outsiders.tell(number, at))
                for number, at in enumerate(scenario.published)
            ),
            *(self._other(f"calls of {plan.id}", self._callers.talk(plan)) for plan in scenario.talks),
            *(
                self._other(f"starts of {plan.dedup}", self._callers.start_same(plan))
                for plan in scenario.sames
            ),
            *(
                self._other(f"starts of {plan.id}", self._callers.start_singles(plan))
                for plan in scenario.singles
            ),
            *(
                self._other(f"budget {plan.name}", self._people.pay(plan, scenario.runs))
                for plan in scenario.budgets
            ),
            *(self._other(f"limit {plan.limit}", self._people.block(plan)) for plan in scenario.blocks),
        )

    async def _start_together(self, plans: list[RunPlan]) -> dict[str, Handle[int]]:
        """All of these in one commit."""
        await asyncio.sleep(min(plan.at for plan in plans))
        handles = await self._insist(
            lambda: self._engine.start_many(
                [runs(plan.program, 0) for plan in plans], ids=[plan.id for plan in plans]
            )
        )
        return {handle.id: handle for handle in handles}

    async def _other(self, name: str, work: Awaitable[None]) -> None:
        """Something that is no run."""
        self.pending[name] = None
        try:
            await work
        except PerdureError as error:
            self._observer.wrong(f"{name}: {type(error).__name__}: {error}")
        self.pending.pop(name)

    async def _enter(self) -> None:
        self._engine = self._make()
        await self._engine.__aenter__()

    async def _one(self, plan: RunPlan) -> None:
        handle: Handle[int]
        if plan.among:
            handle = (await asyncio.shield(self._together))[plan.id]
        else:
            await asyncio.sleep(plan.at)
            handle = await self._insist(
                lambda: self._engine.start(
                    runs(plan.program, 0), id=plan.id, queue=plan.queue, key=plan.key, priority=plan.priority
                )
            )
        self._acknowledged(plan.id in self._observer.database.keys, f"the start of {plan.id}")
        try:
            await asyncio.gather(
                self._talk(handle, plan),
                self._cancel(handle, plan),
                self._compare(handle, plan),
                self._callers.pause(plan, handle),
                *self._outsiders.of(plan, handle),
                *self._people.of(plan),
            )
        except PerdureError as error:
            self._observer.wrong(f"{plan.id}: {type(error).__name__}: {error}")
        self.pending.pop(plan.id)

    async def _talk(self, handle: Handle[int], plan: RunPlan) -> None:
        for number, tag in enumerate(messages(plan.program)):
            await asyncio.sleep(plan.waits[number % len(plan.waits)])
            while True:
                try:
                    await self._insist(partial(handle.send, tag, value_of(tag), key=tag))
                    break
                except RunEndedError:
                    if plan.cancel is not None:
                        return
                    if not is_broken(plan.program):
                        raise
                    await asyncio.sleep(_PAUSE)  # it has failed, and is to go on

    async def _cancel(self, handle: Handle[int], plan: RunPlan) -> None:
        if plan.cancel is not None:
            await asyncio.sleep(plan.cancel)
            await self._insist(partial(handle.cancel, "a simulation says so"))

    async def _compare(self, handle: Handle[int], plan: RunPlan) -> None:
        result = await self._result(handle, plan)
        right = expected(plan.program)
        self._observer.tell(f"{plan.id} resulted in {result}")
        if result is None and plan.cancel is not None:
            self._observer.counts["cancelled"] += 1
            return
        if result != right or waits_for_ever(plan.program):
            self._observer.wrong(f"{plan.id} resulted in {result}, and its program says {right}")
        if not is_broken(plan.program):  # else generations have taken over what others did
            self._compare_histories(plan)
        if plan.forked and result == right:
            await self._callers.fork(plan, handle, right)

    async def _result(self, handle: Handle[int], plan: RunPlan) -> int | None:
        """None of a run that was cancelled. One that was to fail goes on."""
        while True:
            try:
                return await self._insist(handle.result)
            except RunCancelled:
                return None
            except RunFailed:
                if not await self._people.retries(plan, handle):
                    raise

    def _compare_histories(self, plan: RunPlan) -> None:
        """Whether there is exactly as much in the histories as the program says."""
        found: Counter[str] = Counter()
        for run in self._observer.database.runs.values():
            if run.id.partition("/")[0].partition("~")[0] == plan.id:
                found += contents(run.events)
        right = tally(plan.program)
        if found != right:
            self._observer.wrong(
                f"{plan.id}: histories hold {dict(found)}, and its program says {dict(right)}"
            )

    def _acknowledged(self, is_so: bool, what: str) -> None:
        self._observer.counts["acknowledged"] += 1
        if not is_so:
            self._observer.wrong(f"{what} was acknowledged, and isn't in the database")

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except StoreError:
                self._observer.counts["refused"] += 1
                await asyncio.sleep(_PAUSE)


def contents(history: Sequence[bytes]) -> Counter[str]:
    """What a history holds, as `tally` counts it."""
    found: Counter[str] = Counter()
    for event in map(decode_event, history):
        match event:
            case ev.StepCompleted() if WITH_LEAVE not in event.step:  # what people say decides about those
                found["steps"] += 1
            case ev.StepFailed() if event.failure.type in _FAILURES:
                found["steps"] += 1
            case ev.TimerFired():
                found["timers"] += 1
            case ev.ChildEnded():
                found["children"] += 1
            case ev.MessageReceived():
                found["messages"] += 1
            case ev.RunContinued():
                found["generations"] += 1
            case _:
                pass
    return found


def waits_for_ever(program: Program) -> bool:
    """Whether it ends only by being cancelled."""
    return any(kind == "never" or (kind == "tidy" and waits_for_ever(more)) for kind, _, more in program)
