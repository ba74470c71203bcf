"""Two people decide about one step at the same time: the first word counts, and the other one changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from engine_kit import Place, Wrapped, of_kind, reaches, run, until

import perdure
from perdure import events, step, workflow
from perdure.codec.events import decode_event, encode_event
from perdure.core.timeline import Wait
from perdure.errors import UsageError
from perdure.storage.records import Append, Appended, Stale

TURNS = 300  #: of the event loop: more than anything here takes

OF_STEPS = (events.StepStarted, events.StepRerun, events.StepCompleted, events.StepParked)

BEGUN: Counter[str] = Counter()

LATE: list[dict[str, Any]] = [{"result": "done"}, {"fail": "lost"}, {"rerun": True}]


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


@pytest.mark.parametrize("late", LATE, ids=["result", "fail", "rerun"])
def test_what_was_said_of_an_earlier_wait_is_refused(place: Place, late: dict[str, Any]) -> None:
    """Who says which wait they have looked at decides about no other one."""

    async def main() -> None:
        BEGUN.clear()
        async with place.engine() as engine:
            handle = await engine.start(pays_twice_in_doubt(), id="a")
            await reaches(handle, "blocked")
            first = await the_wait(handle)
            assert iso(first.since) in str((await handle.info()).reason), "the reason says how to name it"
            await handle.resolve("never_answers", rerun=True, since=first.since)
            await until(lambda: is_true(parked(handle), 2))
            second = await the_wait(handle)
            with pytest.raises(perdure.NothingToDecideError) as refused:
                await handle.resolve("never_answers", since=first.since, **late)
            told = str(refused.value)
            assert "waits for something else by now" in told
            assert iso(first.since) in told
            assert iso(second.since) in told
            assert "perdure show a" in told
            assert refused.value.since == second.since
            with pytest.raises(perdure.NothingToDecideError, match="waits since"):
                await handle.resolve("never_answers", since=first.since + 0.001, **late)
            await until(lambda: read(engine, handle))
            assert await parked(handle) == 2
            about = datetime.fromtimestamp(second.since, UTC)  # no finer than microseconds
            await handle.resolve("never_answers", result="seen", since=about)
            assert await handle.result() == "seen"
            (rerun,) = await of_kind(handle, events.StepRerun)
            (done,) = await of_kind(handle, events.StepCompleted)
            assert [event.decision.since for event in (rerun, done)] == [first.since, second.since]

    run(main)


@pytest.mark.parametrize("late", LATE, ids=["result", "fail", "rerun"])
def test_what_was_said_of_an_earlier_wait_and_comes_late_changes_nothing(
    place: Place, late: dict[str, Any]
) -> None:
    """It was on its way while the step was run again, and is in doubt once more."""

    async def main() -> None:
        BEGUN.clear()
        async with place.engine() as engine, place.engine(Held, worker=False) as client:
            handle = await engine.start(pays_twice_in_doubt(), id="a")
            await reaches(handle, "blocked")
            since = (await the_wait(handle)).since
            held: Any = client._store
            said = asyncio.ensure_future(client.get("a").resolve("never_answers", since=since, **late))
            await held.sends.wait()
            await handle.resolve("never_answers", rerun=True)
            await until(lambda: is_true(parked(handle), 2))
            held.may.set()
            await said
            await until(lambda: read(engine, handle))
            assert BEGUN["never"] == 2
            assert await parked(handle) == 2
            assert await of_kind(handle, events.StepCompleted, events.StepFailed) == []
            await handle.resolve("never_answers", rerun=True)
            assert await handle.result() == "done"

    run(main)


def test_of_two_answers_to_one_wait_the_second_isnt_for_what_the_first_has_made_of_it(place: Place) -> None:
    """The first doesn't fit the step: it waits on, for another reason, which nobody has seen who gave the second."""

    async def main() -> None:
        BEGUN.clear()
        async with place.engine() as engine, place.engine(Held, worker=False) as client:
            handle = await engine.start(pays_twice_in_doubt(), id="a")
            await reaches(handle, "blocked")
            first = await the_wait(handle)
            held: Any = client._store
            said = asyncio.ensure_future(
                client.get("a").resolve("never_answers", rerun=True, since=first.since)
            )
            await held.sends.wait()
            store = place.store()
            await store.open()
            event = (await of_kind(handle, events.StepParked))[0]
            unfit = events.StepCompleted(
                event.at, event.step, 1, event.started_at, b"7", event.input, decision=events.Decision("bob")
            )
            await store.send("a", encode_event(unfit), now=event.at)
            await store.close()
            await until(lambda: is_true(parked(handle), 2))
            second = await the_wait(handle)
            assert "doesn't fit" in second.detail
            held.may.set()
            await said
            await until(lambda: read(engine, handle))
            assert BEGUN["never"] == 1
            with pytest.raises(perdure.NothingToDecideError, match="waits for something else by now"):
                await handle.resolve("never_answers", rerun=True, since=first.since)
            await handle.resolve("never_answers", result="seen", since=second.since)
            assert await handle.result() == "seen"

    run(main)


def test_a_moment_without_a_time_zone_is_refused(memory: Place) -> None:
    async def main() -> None:
        BEGUN.clear()
        async with memory.engine() as engine:
            handle = await engine.start(pays_twice_in_doubt(), id="a")
            await reaches(handle, "blocked")
            with pytest.raises(UsageError, match="time zone"):
                await handle.resolve("never_answers", rerun=True, since=datetime(2026, 1, 1))

    run(main)


def iso(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


async def parked(handle: perdure.Handle[str]) -> int:
    return len(await of_kind(handle, events.StepParked))


async def the_wait(handle: perdure.Handle[str]) -> Wait:
    (wait,) = (await handle.info()).waiting_for
    assert wait.kind == "decision"
    return wait


async def is_true(count: Awaitable[int], wanted: int) -> bool:
    return await count == wanted


async def read(engine: perdure.Engine, handle: perdure.Handle[str]) -> bool:
    """Nothing lies in its inbox any more."""
    (row,) = await engine._store.get([handle.id])
    assert row is not None
    (kept,) = await engine._store.load([row.run])
    return not kept.mail


class Told(Wrapped):
    """Tells of an append that lets a step wait only when somebody has decided about it already."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.parked = asyncio.Event()
        self.heard = asyncio.Event()

    def append(self, batch: Sequence[Append]) -> asyncio.Future[list[Appended | Stale]]:
        return asyncio.ensure_future(self._append(batch))

    async def _append(self, batch: Sequence[Append]) -> list[Appended | Stale]:
        answers = await self.inner.append(batch)
        kinds = {type(decode_event(data)) for append in batch for data in append.events}
        if events.StepParked in kinds and not self.parked.is_set():
            self.parked.set()
            await self.heard.wait()
        return answers


@pytest.mark.parametrize("late", LATE, ids=lambda late: next(iter(late)))
def test_a_decision_may_be_quicker_than_the_news_that_the_step_waits(
    place: Place, late: dict[str, Any]
) -> None:
    """Who reads the log sees that it waits before the worker hears that this is durable."""
    BEGUN.clear()
    MEETINGS.clear()

    async def main() -> None:
        async with place.engine() as engine:
            told = engine._store = Told(engine._store)
            assert engine._worker is not None
            engine._worker.journal._store = told
            handle = await engine.start(pays(), id="p")
            await told.parked.wait()
            await handle.resolve("transfers", **late)

            async def handed_out() -> bool:
                assert engine._worker is not None
                engine._worker.look_soon()
                return any(driver._last_mail for driver in engine._worker.drivers.values())

            await until(handed_out)
            told.heard.set()
            if "fail" in late:
                with pytest.raises(perdure.RunFailed):
                    await handle.result()
            else:
                assert await handle.result() == "done"

    run(main)
