"""Two people decide about one step at the same time: the first word counts, and the other one changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any

from engine_kit import Place, Wrapped, of_kind, reaches, run, until

import perdure
from perdure import events, step, workflow
from perdure.codec.events import decode_event
from perdure.storage.records import Append, Appended, Stale

TURNS = 300  #: of the event loop: more than anything here takes

OF_STEPS = (events.StepStarted, events.StepRerun, events.StepCompleted, events.StepParked)

BEGUN: Counter[str] = Counter()


class Meeting:
    """Where the step's second attempt waits until somebody else has decided, too."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.decided = asyncio.Event()


MEETINGS: list[Meeting] = []


@step(once=True)
async def transfers() -> str:
    BEGUN["transfers"] += 1
    if BEGUN["transfers"] == 1:
        raise TimeoutError("no answer")
    if MEETINGS:
        MEETINGS[0].begun.set()
        await MEETINGS[0].decided.wait()
    return "done"


@workflow
async def pays() -> str:
    return await transfers()


class Dawdling(Wrapped):
    """Takes its time for decisions.

    Attributes:
        second: it has got the second one.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.decisions = 0
        self.second = asyncio.Event()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        return asyncio.ensure_future(self._append(batch))

    async def _append(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        if any(isinstance(decode_event(data), events.StepRerun) for one in batch for data in one.events):
            self.decisions += 1
            if self.decisions == 2:
                self.second.set()
            await turns(3 * TURNS)
        answers: list[Appended | Stale] = await self.inner.append(batch)
        return answers


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Held(Wrapped):
    """Mail leaves it when it may; until then whoever sends it has looked at the run already."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.sends = asyncio.Event()
        self.may = asyncio.Event()

    async def send(self, *args: Any, **options: Any) -> Any:
        self.sends.set()
        await self.may.wait()
        return await self.inner.send(*args, **options)


async def in_doubt(engine: perdure.Engine) -> perdure.Handle[str]:
    BEGUN.clear()
    MEETINGS.clear()
    handle = await engine.start(pays(), id="a")
    await reaches(handle, "blocked")
    return handle


def test_of_two_results_the_first_is_recorded_and_a_fork_takes_that() -> None:
    async def main() -> None:
        place = Place()
        async with place.engine() as engine, place.engine(Held, worker=False) as client:
            handle = await in_doubt(engine)
            held: Any = client._store
            both = [asyncio.ensure_future(client.get("a").resolve("transfers", result=r)) for r in "ab"]
            await held.sends.wait()
            await turns()
            held.may.set()
            await asyncio.gather(*both)
            result = await handle.result()
            ended = await of_kind(handle, events.StepCompleted)
            assert [event.result for event in ended] == [f'"{result}"'.encode()]
            fork = await handle.fork(id="b")
            assert await fork.result() == result

    run(main)


def test_a_second_rerun_that_comes_while_the_step_executes_begins_nothing() -> None:
    """It arrives when the body has returned, and the outcome isn't recorded yet."""

    async def main() -> None:
        place = Place()
        async with place.engine(Dawdling) as engine, place.engine(Held, worker=False) as client:
            handle = await in_doubt(engine)
            held: Any = client._store
            meeting = Meeting()
            MEETINGS.append(meeting)
            second = asyncio.ensure_future(client.get("a").resolve("transfers", rerun=True))
            await held.sends.wait()
            await handle.resolve("transfers", rerun=True)
            await meeting.begun.wait()
            held.may.set()
            await second
            store: Any = engine._store
            looks = [asyncio.ensure_future(store.second.wait()), asyncio.ensure_future(turns(10 * TURNS))]
            await asyncio.wait(looks, return_when=asyncio.FIRST_COMPLETED)
            looks[0].cancel()
            meeting.decided.set()
            assert await handle.result(timeout=30) == "done"
            assert BEGUN["transfers"] == 2
            kinds = [type(event).__name__ for event in await of_kind(handle, *OF_STEPS)]
            assert kinds[kinds.index("StepCompleted") :] == ["StepCompleted"]

    run(main)


@step(once=True)
async def never_answers() -> str:
    BEGUN["never"] += 1
    if BEGUN["never"] < 3:
        raise TimeoutError("no answer")
    return "done"


@workflow
async def pays_twice_in_doubt() -> str:
    return await never_answers()


def test_a_rerun_that_was_meant_for_an_earlier_attempt_doesnt_count_for_a_later_one(place: Place) -> None:
    """It is on its way while the step is run again, and is in doubt once more: of that its sender knew nothing."""

    async def parked(handle: perdure.Handle[str]) -> int:
        return len(await of_kind(handle, events.StepParked))

    async def main() -> None:
        BEGUN.clear()
        async with place.engine() as engine, place.engine(Held, worker=False) as client:
            handle = await engine.start(pays_twice_in_doubt(), id="a")
            await reaches(handle, "blocked")
            held: Any = client._store
            late = asyncio.ensure_future(client.get("a").resolve("never_answers", rerun=True))
            await held.sends.wait()
            await handle.resolve("never_answers", rerun=True)
            await until(lambda: is_true(parked(handle), 2))
            held.may.set()
            await late
            await until(lambda: read(engine, handle))
            assert BEGUN["never"] == 2
            await reaches(handle, "blocked")
            assert await parked(handle) == 2
            await handle.resolve("never_answers", rerun=True)
            assert await handle.result() == "done"
            reruns = await of_kind(handle, events.StepRerun)
            waited = await of_kind(handle, events.StepParked)
            assert [event.started_at for event in reruns] == [event.started_at for event in waited]

    run(main)


async def is_true(count: Awaitable[int], wanted: int) -> bool:
    return await count == wanted


async def read(engine: perdure.Engine, handle: perdure.Handle[str]) -> bool:
    """Nothing lies in its inbox any more."""
    (row,) = await engine._store.get([handle.id])
    assert row is not None
    (kept,) = await engine._store.load([row.run])
    return not kept.mail
