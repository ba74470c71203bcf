"""Those who call runs and entities, pause and fork runs, and start what is there already.

Each is done by the client's process; what was acknowledged to it, the rules hear.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.errors import HandlerFailed, RunConflictError, RunEndedError, RunFailed, UpdateRejected
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.callees import BAD, TALLY, Tally, is_single, takes_updates
from perdure.testing.simulation.instructions import scheduled
from perdure.testing.simulation.rules.all import Rules
from perdure.testing.simulation.scenario import RunPlan, SamePlan, SinglePlan, TalkPlan
from perdure.testing.torture.programs import value_of


class Callers:
    """Do what needs an answer.

    Args:
        insist: repeats what the store refuses.
    """

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        books: SimulatedBooks,
        insist: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._books = books
        self._insist = insist

    # -- updates and entities -----------------------------------------------------------------------

    async def talk(self, plan: TalkPlan) -> None:
        """Make all calls of a plan, each twice."""
        await asyncio.sleep(plan.at)
        tags = [f"{plan.id}.{number}" for number in range(len(plan.calls))]
        tags = [tag + BAD if value_of(tag) % 4 == 0 else tag for tag in tags]
        good = sum(not tag.endswith(BAD) for tag in tags)
        if plan.kind == "entity":
            await asyncio.gather(*map(self._call_entity, [plan.id] * len(tags), tags, plan.calls))
            entity = self._engine.entity(Tally, plan.id)
            self._rules.calls.left(plan.id, await self._insist(entity.taken) if good else [])
            run = self._engine.get(f"{TALLY}/{plan.id}")
            await self._insist(partial(run.terminate, "all calls are answered"))
            return
        handle = await self._insist(lambda: self._engine.start(takes_updates(good or 1), id=plan.id))
        await asyncio.gather(*map(self._update, [handle] * len(tags), tags, plan.calls))
        if good:
            self._rules.calls.left(plan.id, await self._insist(handle.result))
        else:
            await self._insist(partial(handle.terminate, "all calls are answered"))

    async def _update(self, handle: Handle[Any], tag: str, after: float) -> None:
        if tag.endswith(BAD):  # while the run takes updates for certain
            after = 0.0

        async def one() -> Any:
            return await self._insist(partial(handle.update, "add", tag, key=tag))

        await self._twice(tag, one, after)

    async def _call_entity(self, id: str, tag: str, after: float) -> None:
        async def one() -> Any:
            return await self._insist(partial(self._engine.entity(Tally, id, key=tag).add, tag))

        await self._twice(tag, one, after)

    async def _twice(self, tag: str, ask: Callable[[], Awaitable[Any]], after: float) -> None:
        async def one(more: float) -> None:
            await asyncio.sleep(after + more)
            try:
                answer = await ask()
            except RunEndedError:
                if not tag.endswith(BAD):  # the run waits for all others
                    raise
                return
            except (UpdateRejected, HandlerFailed, ValueError) as error:
                answer = f"{type(error).__name__}"
            self._rules.calls.answered(tag, answer)

        await asyncio.gather(one(0.0), one(value_of(tag) % 5 / 20))

    # -- pauses and forks ---------------------------------------------------------------------------

    async def pause(self, plan: RunPlan, handle: Handle[int]) -> None:
        """Pause a run now and then."""
        pauses = self._rules.pauses
        try:
            for before, seconds in plan.pauses:
                await asyncio.sleep(before)
                await self._insist(partial(handle.pause, "a simulation says so"))
                pauses.held.add(plan.id)
                await asyncio.sleep(seconds)
                pauses.goes_on(plan.id)
                await self._insist(handle.resume)
        except RunConflictError:  # it has ended
            pauses.goes_on(plan.id)

    async def fork(self, plan: RunPlan, handle: Handle[int], result: int) -> None:
        """Let another run have all that this one did: nothing of it is done again."""
        other = await self._insist(partial(handle.fork, id=f"fork of {plan.id}"))
        again = await self._insist(other.result)
        self._rules.observer.counts["forks"] += 1
        if again != result:
            self._rules.observer.wrong(f"a fork of {plan.id} resulted in {again}, and it in {result}")

    # -- starts that mean the same ------------------------------------------------------------------

    async def start_same(self, plan: SamePlan) -> None:
        """Start runs of which one at a time may be live."""
        await asyncio.gather(*(self._start_one(plan, at) for at in plan.starts))

    async def _start_one(self, plan: SamePlan, at: float) -> None:
        await asyncio.sleep(at)
        handle = await self._insist(
            lambda: self._engine.start(
                scheduled(plan.milliseconds),
                queue=plan.queue,
                dedup=plan.dedup,
                debounce=plan.debounce,
                debounce_max=None if plan.debounce is None else 1.5,
            )
        )
        self._rules.observer.counts["starts that mean the same"] += 1
        result = await self._insist(handle.result)
        if result != value_of(handle.id):
            self._rules.observer.wrong(f"{handle.id} resulted in {result}")

    async def start_singles(self, plan: SinglePlan) -> None:
        """Start what is there once at most; some start it anew, and let it go on when it has failed."""
        await asyncio.gather(*(self._start_single(plan, n, *start) for n, start in enumerate(plan.starts)))

    async def _start_single(self, plan: SinglePlan, number: int, at: float, anew: bool) -> None:
        await asyncio.sleep(at)
        call = partial(is_single, plan.id, plan.milliseconds, plan.more, plan.fails)
        try:
            handle = await self._insist(
                lambda: self._engine.start(
                    call(),
                    id=plan.id if anew else f"{plan.id}.{number}",
                    if_exists="restart" if anew else "attach",
                )
            )
        except RunConflictError as error:  # it is live
            self._rules.observer.tell(f"{plan.id} isn't started anew: {error}")
            return
        self._rules.observer.counts["starts of singletons"] += 1
        while True:
            try:
                result = await self._insist(handle.result)
                break
            except RunFailed as error:
                self._books.mended.add(handle.id)
                try:
                    await self._insist(handle.retry)
                except RunConflictError as conflict:  # another one is live, or somebody has
                    self._rules.observer.tell(f"{handle.id} stays as it is: {conflict}, {error}")
                    return
        if result != handle.id.partition(".")[0]:
            self._rules.observer.wrong(f"{handle.id} resulted in {result}")
