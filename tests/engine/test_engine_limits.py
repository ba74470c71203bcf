"""Steps under rate limits: when they begin, how they wait, and what the other side's refusal does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_kit import Place, bury, crash, history, of_kind, reaches, run, until

import perdure
from perdure import Rate, RateLimit, RateLimited, Retry, events, step, workflow
from perdure.errors import ConfigurationError, UsageError
from perdure.runtime.gate import Pass

#: Five at once, then one every 52.5 s or so: who comes sixth waits for good.
SLOW = RateLimit("slow", requests=Rate(6, per=60, burst=5))
#: One at once, then one every 0.21 s.
STEADY = RateLimit("steady", requests=Rate(5, per=1, burst=1))
TOKENS = RateLimit("tokens", requests=Rate(1000, per=1), tokens=Rate(100, per=3600, burst=100))

BEGUN: list[float] = []


@pytest.fixture(autouse=True)
def ledger() -> Iterator[None]:
    BEGUN.clear()
    return


def begins() -> None:
    BEGUN.append(time.time())


@step(limit=SLOW)
async def slowly(word: str) -> str:
    begins()
    return word


@step(limit=STEADY)
async def steadily(word: str) -> str:
    begins()
    return word


@step(limit=STEADY)
def steadily_in_a_thread(word: str) -> str:
    begins()
    return word


@workflow
async def one(word: str) -> str:
    return await slowly(word)


@workflow
async def many(count: int) -> int:
    await asyncio.gather(*(steadily(str(number)) for number in range(count)))
    return count


@workflow
async def many_in_threads(count: int) -> int:
    await asyncio.gather(*(steadily_in_a_thread(str(number)) for number in range(count)))
    return count


def most(window: float) -> int:
    """The most that began within any window of this length."""
    moments = sorted(BEGUN)
    return max(sum(first <= at < first + window for at in moments) for first in moments)


@pytest.mark.parametrize("shape", [many, many_in_threads], ids=["async", "threads"])
def test_no_window_holds_more_than_the_limit(place: Place, shape: Any) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handles = [await engine.start(shape(4)) for _ in range(3)]
            for handle in handles:
                assert await handle.result() == 4
        assert len(BEGUN) == 12
        assert most(1.0) <= 5

    run(main)


def test_a_wait_is_a_note_in_the_history_and_the_run_leaves_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.2) as engine:
            for number in range(5):
                assert await engine.run(one(str(number))) == str(number)
            handle = await engine.start(one("sixth"))
            await reaches(handle, "waiting")
            (delayed,) = await of_kind(handle, events.StepDelayed)
            assert delayed.limit == "slow"
            assert 30 < delayed.until - delayed.at < 60
            assert engine._worker is not None
            drivers = engine._worker.drivers
            await until(lambda: not drivers)
            assert len(BEGUN) == 5

    run(main)


def test_who_waits_begins_at_its_moment_on_whatever_worker(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.0) as engine:
            handle = await engine.start(many(4))
            await until(lambda: of_kind(handle, events.StepDelayed))
            await until(lambda: BEGUN)
            await crash(engine)
        await bury(place)
        async with place.engine(evict_after=0.0) as engine:
            assert await engine.get(handle.id).result() == 4
            assert most(1.0) <= 5
            assert not any(
                isinstance(event, events.StepAttemptFailed) for event in await history(engine.get(handle.id))
            )

    run(main)


def test_a_step_that_waits_holds_no_place_among_those_that_execute(place: Place) -> None:
    @step(name="limits.free")
    async def free(number: int) -> int:
        return number

    @workflow(name="limits.both")
    async def both() -> int:
        slow = [asyncio.create_task(slowly(str(number))) for number in range(8)]
        got = [await free(number) for number in range(20)]
        for task in slow:
            task.cancel()
        return len(got)

    async def main() -> None:
        async with place.engine(concurrency=1) as engine:
            assert await engine.run(both()) == 20
            assert len(BEGUN) <= 5

    run(main)


def test_what_was_not_used_comes_back(memory: Place) -> None:
    @step(name="limits.asks", limit=TOKENS.cost(tokens=lambda prompt: 10 * len(prompt)))
    async def asks(prompt: str) -> int:
        begins()
        perdure.settle(TOKENS, tokens=50)
        perdure.settle(TOKENS, tokens=5)
        return len(prompt)

    @workflow(name="limits.talks")
    async def talks(prompt: str) -> int:
        return await asks(prompt)

    async def main() -> None:
        async with memory.engine() as engine:
            for _ in range(5):
                assert await engine.run(talks("x" * 8)) == 8

            async def settled() -> bool:
                info = await engine.limits.get(TOKENS)
                return info is not None and info.units["tokens"].free >= 75

            await until(settled)
            handle = await engine.start(talks("x" * 11))
            with pytest.raises(
                perdure.RunFailed, match="110 tokens at once are more than the 100 per 3600 s"
            ):
                await handle.result()

    run(main)


def test_costs_are_worked_out_from_arguments_in_threads_and_with_options(memory: Place) -> None:
    @step(name="limits.thread", limit=TOKENS)
    def in_a_thread(prompt: str, *, most: int = 7) -> int:
        perdure.settle(TOKENS, tokens=most + 1)
        return most

    costly = in_a_thread.with_options(limit=TOKENS.cost(requests=2, tokens=lambda most: most))

    @workflow(name="limits.threads")
    async def threads() -> list[int]:
        return [
            await costly("x"),
            await in_a_thread("y", most=3),
            await in_a_thread.with_options(limit=[])("z"),
        ]

    @step(name="limits.unlimited")
    async def unlimited() -> None:
        perdure.settle(TOKENS, tokens=1)

    @workflow(name="limits.wrong")
    async def wrong() -> None:
        await unlimited()

    @workflow(name="limits.settles_itself")
    async def settles_itself() -> None:
        perdure.settle(TOKENS, tokens=1)

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="call it in that step"):
                await engine.run(settles_itself())
            with pytest.raises(perdure.RunFailed, match="isn't under the rate limit 'tokens'"):
                await engine.run(threads())

            async def settled() -> bool:
                info = await engine.limits.get("tokens")
                return info is not None and 84 <= info.units["tokens"].free <= 89

            await until(settled)
            with pytest.raises(perdure.RunFailed, match="give it, as in @step"):
                await engine.run(wrong())

    run(main)


@step(limit=TOKENS.cost(tokens=lambda says: says))
async def settled(says: int, uses: int) -> None:
    perdure.settle(TOKENS, tokens=uses)


@workflow
async def settles(says: int, uses: int) -> None:
    await settled(says, uses)


# -- turned away --------------------------------------------------------------------------------------


class Response:
    def __init__(self, status: int, **headers: str) -> None:
        self.status_code = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class HTTPError(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status_code}")
        self.response = response


QUICK = RateLimit("quick", requests=Rate(10_000, per=1))
ANSWERS: list[Exception] = []


@step(limit=QUICK, retry=Retry(max_attempts=2))
async def calls(word: str) -> str:
    begins()
    if ANSWERS:
        raise ANSWERS.pop(0)
    return f"{word} {perdure.step_info().attempt}"


@workflow
async def call(word: str) -> str:
    return await calls(word)


def test_being_turned_away_blocks_the_limit_for_all_and_is_no_attempt(place: Place) -> None:
    async def main() -> None:
        ANSWERS[:] = [HTTPError(Response(429, retry_after="0.7")) for _ in range(3)]
        async with place.engine() as engine, place.engine() as other:
            handle = await engine.start(call("a"))
            await until(lambda: of_kind(handle, events.StepDelayed))
            refused = BEGUN[-1]
            later = await other.start(call("b"))
            assert (await handle.result(), await later.result()) == ("a 1", "b 1")
            delayed = [
                event for event in await of_kind(handle, events.StepDelayed) if event.failure is not None
            ]
            theirs = [
                event for event in await of_kind(later, events.StepDelayed) if event.failure is not None
            ]
            assert len(delayed) + len(theirs) == 3
            assert delayed[0].failure.message == "status 429"
            assert sorted(BEGUN)[1] >= refused + 0.69
            assert not await of_kind(handle, events.StepAttemptFailed)

    run(main)


def test_a_failure_like_any_other_is_an_attempt(memory: Place) -> None:
    async def main() -> None:
        ANSWERS[:] = [RateLimited(after=0.05), HTTPError(Response(500)), RateLimited(after=0.05)]
        async with memory.engine() as engine:
            handle = await engine.start(call("a"))
            assert await handle.result() == "a 2"
            kinds = [
                type(event).__name__
                for event in await of_kind(handle, events.StepDelayed, events.StepAttemptFailed)
            ]
            assert [kind for kind in kinds if kind != "StepDelayed"] == ["StepAttemptFailed"]
            assert kinds[0] == kinds[-1] == "StepDelayed"

    run(main)


def test_a_policy_may_refuse_to_wait_and_a_deadline_ends_it(memory: Place) -> None:
    never = calls.with_options(retry=Retry(never=(HTTPError,)))
    short = calls.with_options(deadline=1.0)

    @workflow(name="limits.impatient")
    async def impatient() -> list[str]:
        return [str(error) for error in await asyncio.gather(never("a"), return_exceptions=True)]

    @workflow(name="limits.short")
    async def in_time() -> str:
        return await short("b")

    async def main() -> None:
        ANSWERS[:] = [HTTPError(Response(529))]
        async with memory.engine() as engine:
            assert await engine.run(impatient()) == ["status 529"]
            await engine.limits.unblock(QUICK)
            ANSWERS[:] = [HTTPError(Response(429, retry_after="60"))]
            with pytest.raises(perdure.RunFailed, match="status 429"):
                await engine.run(in_time())

    run(main)


def test_a_named_limit_is_blocked_from_a_step_without_one(memory: Place) -> None:
    @step(name="limits.tells")
    async def tells() -> str:
        if perdure.step_info().attempt == 1:
            raise RateLimited("enough", after=0.01, limit=SLOW)
        return "told"

    @workflow(name="limits.tell")
    async def tell() -> str:
        return await tells()

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(tell()) == "told"

            async def there() -> bool:
                return [info.name for info in await engine.limits.list()] == ["slow"]

            await until(there)

    run(main)


# -- from outside ---------------------------------------------------------------------------------------


def test_blocking_from_outside_holds_until_it_is_over_or_taken_back(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine, place.engine(worker=False) as client:
            assert await client.limits.get("quick") is None
            await client.limits.block(QUICK, after=timedelta(hours=1))
            await client.limits.block("quick", until=datetime.now(UTC) + timedelta(minutes=1))
            (info,) = await client.limits.list()
            assert info.blocked_until is not None
            assert info.blocked_until > datetime.now(UTC) + timedelta(minutes=50)
            handle = await engine.start(call("a"))
            await reaches(handle, "waiting")
            assert BEGUN == []
            (wait,) = (await handle.info()).waiting_for
            assert (wait.kind, wait.detail) == ("limit", "quick")
            why = await handle.why()
            assert "waits for the rate limit quick" in why.causes[0].what
            await client.limits.unblock("quick")
            assert await engine.run(call("b")) == "b 1"
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert any(isinstance(event, events.OperationDropped) for event in await history(handle))

    run(main)


def test_a_reset_forgets_what_was_used(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            for number in range(5):
                await engine.run(one(str(number)))
            info = await engine.limits.get(SLOW)
            assert info is not None
            assert (info.units["requests"].free, info.units["requests"].rate) == (0, SLOW.rates["requests"])
            assert info.next_at > datetime.now(UTC) + timedelta(seconds=20)
            await engine.limits.reset(SLOW)
            assert await engine.run(one("again")) == "again"

    run(main)


def test_the_newest_registration_of_rates_holds_and_is_logged(
    memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    newer = RateLimit("quick", requests=Rate(7, per=60))
    new = calls.with_options(limit=newer)

    @workflow(name="limits.newer")
    async def use_newer() -> str:
        return await new("n")

    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(call("a"))
            await engine.run(call("a"))
            assert caplog.records == []
            await engine.run(use_newer())
            info = await engine.limits.get("quick")
            assert info is not None
            assert info.units["requests"].rate == Rate(7, per=60)

    with caplog.at_level(logging.WARNING):
        run(main)
    (told,) = caplog.records
    assert "the rate limit 'quick' was RateLimit('quick'" in told.getMessage()


# -- misuse -----------------------------------------------------------------------------------------------


def test_what_cannot_be_meant_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ConfigurationError, match="can't name a rate limit"):
        RateLimit("", requests=Rate(1, per=1))
    with pytest.raises(ConfigurationError, match="give a Rate for each unit"):
        RateLimit("a")
    with pytest.raises(ConfigurationError, match="counts no 'tokens'; its units are requests"):
        QUICK.cost(tokens=1)
    with pytest.raises(ConfigurationError, match="is a number from 0"):
        QUICK.cost(requests=-1)
    with pytest.raises(ConfigurationError, match="is given twice"):
        step(limit=[QUICK, QUICK.cost(requests=2)])
    with pytest.raises(ConfigurationError, match="give a RateLimit"):
        step(limit=["quick"])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match=r"asks for 'prompt', which isn't among .* \(word\)"):
        calls.with_options(limit=QUICK.cost(requests=lambda prompt: prompt))
    with pytest.raises(UsageError, match="counts no 'words'"):
        perdure.settle(QUICK, words=1)


def test_a_block_needs_one_end(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(UsageError, match="until=, a time, or after="):
                await engine.limits.block("a")
            with pytest.raises(UsageError, match="has no time zone"):
                await engine.limits.block("a", until=datetime(2030, 1, 1))

    run(main)


def test_costs_that_fail_fail_the_step(memory: Place) -> None:
    bad = calls.with_options(limit=QUICK.cost(requests=lambda word: word + 1))
    negative = calls.with_options(limit=QUICK.cost(requests=lambda word: -len(word)))

    @workflow(name="limits.bad")
    async def fails() -> list[str]:
        found = await asyncio.gather(bad("a"), negative("b"), return_exceptions=True)
        return [type(error).__name__ for error in found]

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(fails()) == ["TypeError", "ConfigurationError"]

    run(main)


@step(limit=QUICK, queue="afar")
async def far(word: str) -> str:
    begins()
    if ANSWERS:
        raise ANSWERS.pop(0)
    return word


@workflow
async def far_call(word: str) -> str:
    return await far(word)


@workflow
async def far_costs(word: str) -> str:
    return await far.with_options(limit=STEADY.cost(requests=lambda word: len(word)))(word)


def test_steps_in_other_queues_are_under_the_limits_of_the_call(place: Place) -> None:
    async def main() -> None:
        ANSWERS[:] = [HTTPError(Response(429, retry_after="0.3"))]
        async with place.engine(), place.engine(queues=["afar"]) as other:
            handle = await other.start(far_call("a"), queue="default")
            assert await handle.result() == "a"
            (turned_away,) = [e for e in await of_kind(handle, events.StepDelayed) if e.failure is not None]
            assert turned_away.limit == "quick"
            assert BEGUN[1] > BEGUN[0] + 0.29
            handles = [await other.start(far_costs("xx"), queue="default") for _ in range(2)]
            assert [await handle.result() for handle in handles] == ["xx", "xx"]
            assert BEGUN[-1] > BEGUN[-2] + 0.4
            with pytest.raises(perdure.RunFailed, match="6 requests at once are more than the 5 per 1 s"):
                await other.run(far_costs("6" * 6), queue="default")

    run(main)


def test_costs_that_fail_fail_the_step_before_it_is_sent(memory: Place) -> None:
    @workflow(name="limits.far_bad")
    async def bad() -> str:
        return await far.with_options(limit=QUICK.cost(requests=lambda word: word + 1))("a")

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="TypeError"):
                await engine.run(bad())

    run(main)


def test_without_an_engine_limits_do_nothing() -> None:
    async def main() -> None:
        assert await slowly("plain") == "plain"
        perdure.settle(SLOW, requests=3)

    run(main)


# -- crashes and pauses ---------------------------------------------------------------------------------


def test_a_paused_run_asks_for_nothing_and_goes_on(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            await engine.limits.block(STEADY, after=3600)
            handle = await engine.start(many(2), id="a")
            await until(lambda: of_kind(handle, events.StepDelayed))
            await handle.pause()
            await reaches(handle, "paused")
        memory.ahead += 3600
        async with memory.engine() as engine:
            handle = engine.get("a")
            assert await engine.run(call("b")) == "b 1"
            assert len(BEGUN) == 1
            await handle.resume()
            assert await handle.result() == 2

    run(main)


def test_a_fork_asks_for_nothing_that_it_takes_over(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(one("a"))
            await handle.result()
            for number in range(6):
                forked = await handle.fork(id=f"f-{number}")
                assert await forked.result() == "a"
            assert len(BEGUN) == 1

    run(main)


def test_a_store_that_is_away_lets_steps_wait(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            limits: Any = engine._store.limits
            turn, refused = limits.turn, 0

            async def sometimes(batch: Any, *, now: int) -> Any:
                nonlocal refused
                if refused < 3:
                    refused += 1
                    raise perdure.errors.StoreUnavailableError("away")
                return await turn(batch, now=now)

            monkeypatch.setattr(limits, "turn", sometimes)
            assert await engine.run(call("a")) == "a 1"
            assert refused == 3

    run(main)


def test_a_step_that_mustnt_happen_twice_may_come_too_late(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is in the log already: the log then tells that it didn't begin, and nobody is asked about it."""

    @step(name="limits.once", limit=QUICK, once=True)
    async def once() -> str:
        begins()
        return "done"

    @workflow(name="limits.onces")
    async def onces() -> str:
        return await once()

    looks: list[int] = []
    real = Pass.void

    def late_at_first(self: Pass, now: float) -> bool:
        looks.append(1)
        return len(looks) == 2 or real(self, now)

    monkeypatch.setattr(Pass, "void", late_at_first)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(onces())
            assert await handle.result() == "done"
            kinds = [type(event).__name__ for event in await history(handle)]
            assert kinds[:4] == ["RunStarted", "StepStarted", "StepDelayed", "StepStarted"]
            assert len(BEGUN) == 1

    run(main)


def test_two_declarations_in_one_process_do_not_take_turns(
    memory: Place, caplog: pytest.LogCaptureFixture
) -> None:
    second = calls.with_options(limit=RateLimit("quick", requests=Rate(20_000, per=1)))

    @workflow(name="limits.both_declared")
    async def both() -> None:
        for _ in range(3):
            await calls("a")
            await second("b")

    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(both())

    with caplog.at_level(logging.WARNING):
        run(main)
    assert len(caplog.records) == 1


def test_what_was_used_is_told_before_an_engine_closes(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(settles(50, 5))
        async with place.engine(worker=False) as client:
            info = await client.limits.get(TOKENS)
            assert info is not None
            assert info.units["tokens"].free >= 95

    run(main)


def test_after_an_error_of_the_store_nothing_is_given_back_twice(
    memory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have happened. What was used beyond is told again, since owing too much does no harm."""

    async def main() -> None:
        async with memory.engine() as engine:
            limits: Any = engine._store.limits
            turn, told = limits.turn, list[Any]()

            async def at_first_in_doubt(batch: Any, *, now: int) -> Any:
                told.append(batch.changes)
                answers = await turn(batch, now=now)
                if batch.changes and len([changes for changes in told if changes]) == 1:
                    raise perdure.errors.StoreUnavailableError("nobody knows whether it happened")
                return answers

            monkeypatch.setattr(limits, "turn", at_first_in_doubt)
            await engine.run(settles(50, 5))
            await until(lambda: len(told) >= 3)
            assert [len(changes) for changes in told[:3]] == [0, 1, 0]
            info = await engine.limits.get(TOKENS)
            assert info is not None
            assert info.units["tokens"].free == 95

    run(main)


def test_many_runs_ask_together(memory: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the limit isn't what holds them up, a hundred steps are a few turns of the store."""

    async def main() -> None:
        async with memory.engine() as engine:
            limits: Any = engine._store.limits
            turn, turns = limits.turn, 0

            async def counted(batch: Any, *, now: int) -> Any:
                nonlocal turns
                turns += 1
                return await turn(batch, now=now)

            monkeypatch.setattr(limits, "turn", counted)
            handles = await engine.start_many([call(str(number)) for number in range(300)])
            await asyncio.gather(*(handle.result() for handle in handles))
            assert turns < 100

    run(main)
