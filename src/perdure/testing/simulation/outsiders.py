"""Those around simulated runs who do their part: they publish, keep promises, read streams, hold queues.

All of them are in the client's process, and use its engine. What they draw is made of the tags.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from perdure.api.engine import Engine
from perdure.api.handle import Handle
from perdure.api.streams import StreamItem
from perdure.core.status import Status
from perdure.errors import CallbackError, StoreError
from perdure.testing.simulation.books import SimulatedBooks
from perdure.testing.simulation.instructions import (
    BATCHED,
    DEBOUNCED,
    FOLLOWED,
    SAID,
    STREAM,
    TOLD,
    scheduled,
)
from perdure.testing.simulation.rules.all import Rules
from perdure.testing.simulation.scenario import HoldPlan, RunPlan, SchedulePlan
from perdure.testing.torture.programs import instructions, value_of

T = TypeVar("T")

_LOOK: Final = 0.02  #: seconds between two looks for a token
#: Seconds without a fault before a schedule is paused for good. The only worker may be leaving, which may take 5.
_QUIET: Final = 9.0


class Outsiders:
    """Do what runs need from outside.

    Args:
        insist: repeats what the store refuses.
        healed: when nothing goes wrong any more, in seconds of virtual time.
    """

    def __init__(
        self,
        engine: Engine,
        rules: Rules,
        books: SimulatedBooks,
        insist: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]],
        healed: float,
    ) -> None:
        self._engine = engine
        self._rules = rules
        self._books = books
        self._insist = insist
        self._healed = healed

    def of(self, plan: RunPlan, handle: Handle[int]) -> list[Awaitable[None]]:
        """Those whom a run needs."""
        found: list[Awaitable[None]] = []
        for kind, tag, more in instructions(plan.program):
            match kind:
                case "hears":
                    found.append(self._publish(SAID, tag, 1, pause=drawn_of(tag, 0.0, 0.02, 0.5)))
                case "follows":
                    found.append(self._publish(FOLLOWED, tag, more[0], pause=drawn_of(tag, 0.0, 0.02, 0.2)))
                case "promised":
                    found.append(self._keep_promise(tag, more, handle))
                case _:
                    pass
        if any(kind in ("emits", "puts out") for kind, _, _ in instructions(plan.program)):
            found.append(self._read(handle))
        return found

    # -- published events ---------------------------------------------------------------------------

    async def _publish(self, name: str, tag: str, count: int, pause: float) -> None:
        for number in range(count):
            await asyncio.sleep(pause)
            await self._told(name, f"{tag}/{number}", {"tag": tag, "number": number})

    async def tell(self, number: int, at: float) -> None:
        """Publish an event that starts a run."""
        await asyncio.sleep(at)
        tag = f"c.{number}"
        kind = (TOLD, BATCHED, DEBOUNCED)[number % 3]
        await self._told(kind, tag, {"tag": tag, "attempt": 2})

    async def _told(self, name: str, key: str, payload: dict[str, Any]) -> None:
        publish = partial(self._engine.publish, name, payload, key=key)
        if not await self._insist(publish):
            self._rules.observer.wrong(
                f"the event {name} with the key {key} was there before it was published"
            )
        if drawn_of(key, 0, 1):
            if await self._insist(publish):
                self._rules.observer.wrong(f"the event {name} with the key {key} was published twice")
            self._rules.observer.counts["events repeated"] += 1

    # -- callbacks ----------------------------------------------------------------------------------

    async def _keep_promise(self, tag: str, times: Any, handle: Handle[int]) -> None:
        """Two who complete a callback, or fail it, and one who sends heartbeats; or nobody, where it has a time-out."""
        timeout, heartbeat = times
        while tag not in self._books.tokens:
            if self._is_over(handle):
                return
            await asyncio.sleep(_LOOK)
        token = self._books.tokens[tag]
        ends = timeout is not None or heartbeat is not None
        if not (ends and drawn_of(tag, 0, 0, 1)):
            rivals = [self._end(tag, token, number) for number in range(2)]
            await asyncio.gather(*rivals, *([self._beat(tag, token)] if heartbeat else []))

    async def _end(self, tag: str, token: str, number: int) -> None:
        await asyncio.sleep(drawn_of(f"{tag}/{number}", 0.0, 0.1, 0.5, 0.8, 1.5, 3.0))
        callbacks, text = self._engine.callbacks, str(number)
        fails = drawn_of(f"{tag}/{number}", 0, 1, 0)
        end = callbacks.fail if fails else callbacks.complete
        try:
            await self._insist(partial(end, token, text))
        except CallbackError as error:
            self._rules.observer.tell(f"{tag}: {type(error).__name__}")
        else:
            self._rules.callbacks.acknowledged(tag, f"{'failed' if fails else 'completed'} {text}")

    async def _beat(self, tag: str, token: str) -> None:
        try:
            for _ in range(drawn_of(tag, 1, 3, 6)):
                await asyncio.sleep(0.4)
                await self._insist(partial(self._engine.callbacks.heartbeat, token))
        except CallbackError:
            return

    def _is_over(self, handle: Handle[int]) -> bool:
        run = self._rules.observer.database.find_id(handle.id)
        return run is None or (run.ended and run.status != Status.FAILED)  # then it is to go on

    # -- streams ------------------------------------------------------------------------------------

    async def _read(self, handle: Handle[int]) -> None:
        """Follow a run's stream, going on behind what was read when the database can't be reached."""
        offset, items = 0, list[StreamItem[Any]]()
        while True:
            try:
                async for item in handle.stream(STREAM, after=offset):
                    offset = item.offset
                    if item.since is None:
                        items.append(item)
                    else:
                        items = [one for one in items if one.step != item.step or one.offset < item.since]
            except StoreError:
                await asyncio.sleep(_LOOK)
            else:
                break
        self._rules.streams.followed(handle.id, [item.value for item in items])

    # -- queues -------------------------------------------------------------------------------------

    async def hold(self, plan: HoldPlan) -> None:
        """Hold a queue for a while."""
        queues, held = self._engine.queues, self._rules.queues.held
        await asyncio.sleep(plan.at)
        await self._insist(partial(queues.pause if plan.how == "pause" else queues.drain, plan.queue))
        held.add(plan.queue)
        await asyncio.sleep(plan.seconds)
        held.discard(plan.queue)
        await self._insist(partial(queues.resume, plan.queue))

    # -- schedules ----------------------------------------------------------------------------------

    async def schedule(self, plan: SchedulePlan, now: Callable[[], float]) -> None:
        """Make a schedule, and end it when all has been well for a while."""
        await asyncio.sleep(plan.at)
        schedules = self._engine.schedules
        schedule = await self._insist(
            lambda: schedules.create(plan.name, scheduled(plan.milliseconds), **plan.options)
        )
        if plan.pauses is not None:
            before, seconds = plan.pauses
            await asyncio.sleep(before)
            await self._insist(schedule.pause)
            self._rules.schedules.held.add(plan.name)
            await asyncio.sleep(seconds)
            await self._insist(schedule.resume)
        await asyncio.sleep(max(1.0, self._healed + _QUIET - now()))
        await self._insist(schedule.pause)
        self._rules.schedules.ended(plan.name)


def drawn_of(tag: str, *choices: T) -> T:
    """One of these, always the same for a tag."""
    return choices[value_of(f"{tag}?") % len(choices)]
