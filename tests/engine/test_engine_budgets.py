"""Runs spend no more than their budgets allow, wait when that is used up, and go on when there is more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Place, Wrapped, of_kind, reaches, run, status_of, until

import perdure
from perdure import Budget, BudgetExceeded, Engine, Retry, Spend, events, step, workflow
from perdure.core.accounts import Terms
from perdure.core.usage import nanos
from perdure.errors import ConfigurationError, DuplicateNameError, RunFailed, UsageError
from perdure.storage.budgets import Forget

CALLS: list[str] = []
AT_ONCE = {"now": 0, "most": 0}


@pytest.fixture(autouse=True)
def nothing_is_called_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    AT_ONCE.update(now=0, most=0)
    monkeypatch.setattr("perdure.runtime.spending._spenders", set())


def cheap(what: str) -> None:
    CALLS.append(what)
    perdure.record_usage(model="m", provider="p", input_tokens=100, output_tokens=10, cost="0.10")


@step(spends=Spend(cost=Decimal("0.30")))
async def asks(what: str) -> str:
    """May cost 0.30, and costs 0.10."""
    AT_ONCE["now"] += 1
    AT_ONCE["most"] = max(AT_ONCE["most"], AT_ONCE["now"])
    await asyncio.sleep(0.001)
    cheap(what)
    AT_ONCE["now"] -= 1
    return what.upper()


@step(spends=True)
async def asks_without_saying_more(what: str) -> str:
    cheap(what)
    return what


@step(spends=Spend(cost=Decimal("0.30")), retry=Retry(initial=0.001, max_attempts=3))
async def fails_twice(what: str) -> str:
    cheap(what)
    if perdure.step_info().attempt < 3:
        raise ValueError("not JSON")
    return what


async def gather(*what: str) -> list[str]:
    return list(await asyncio.gather(*(asks(each) for each in what)))


@workflow(budget=Budget(usd=1))
async def thrifty(calls: int) -> int:
    for number in range(calls):
        await asks(str(number))
    return calls


@workflow(budget=Budget(usd=1))
async def many(calls: int) -> int:
    return len(await gather(*map(str, range(calls))))


@workflow(budget=Budget(usd=1, on_exhausted="fail"))
async def strict(calls: int) -> str:
    try:
        for number in range(calls):
            await asks(str(number))
    except BudgetExceeded as error:
        return str(error)
    return "enough"


GATES: list[asyncio.Event] = []


@step(spends=Spend(cost=Decimal("0.80")))
async def takes_long(what: str) -> str:
    """Is at it until somebody opens the gate."""
    await GATES[-1].wait()
    cheap(what)
    return what.upper()


@workflow(budget=Budget(usd=1, on_exhausted="fail"))
async def crowded() -> list[str]:
    return list(await asyncio.gather(takes_long("long"), asks("short")))


@workflow(budget=Budget(usd=1, on_exhausted="ask"))
async def asking(calls: int) -> int:
    for number in range(calls):
        await asks(str(number))
    return calls


@workflow
async def helper(calls: int) -> int:
    for number in range(calls):
        await asks(str(number))
    return calls


@workflow(budget=[Budget(usd="0.75"), Budget(usd=2, per="key", name="tenants")])
async def parent(calls: int) -> int:
    return sum(await asyncio.gather(helper(calls), helper(calls)))


@workflow(budget=Budget(usd=1))
async def unsaid(calls: int) -> int:
    await asyncio.gather(*(asks_without_saying_more(str(number)) for number in range(calls)))
    return calls


@workflow(budget=Budget(usd=1))
async def stubborn() -> str:
    return await fails_twice("x")


@workflow(budget=Budget(usd=1, per="day"))
async def daily(calls: int) -> int:
    for number in range(calls):
        await asks(str(number))
    return calls


@workflow(budget=Budget(spike="0.35"))
async def spiky(calls: int) -> int:
    for number in range(calls):
        await asks(str(number))
    return calls


@step(spends=Spend(cost=Decimal("0.30")), queue="models")
async def asks_elsewhere(what: str) -> str:
    cheap(what)
    return what


@step(spends=Spend(cost=Decimal("0.30")), once=True)
def asks_once(what: str) -> str:
    cheap(what)
    return what


@workflow(budget=Budget(usd=1))
async def elsewhere(calls: int) -> int:
    for number in range(calls):
        await asks_elsewhere(str(number))
    return calls


@workflow(budget=Budget(usd=1, on_exhausted="fail"))
async def strict_elsewhere() -> int:
    done = 0
    try:
        while True:
            await asks_elsewhere("x")
            done += 1
    except BudgetExceeded:
        return done


@workflow(budget=Budget(usd=1))
async def only_once(calls: int) -> int:
    for number in range(calls):
        await asks_once(str(number))
    return calls


@workflow(budget=Budget(usd=1))
async def gives_up() -> str:
    for number in range(8):
        await asks(str(number))
    try:
        async with asyncio.timeout(0.2):
            await asks("too much")
    except TimeoutError:
        return "did without"
    return "asked"


async def account(engine: Engine, name: str, owner: str = "") -> Any:
    info = await engine.budgets.get(name)
    assert info is not None
    (found,) = [each for each in info.accounts if each.owner == owner]
    return found


def test_a_run_is_blocked_when_its_money_is_spent_and_goes_on_when_there_is_more(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(thrifty(12), id="r")
            await reaches(handle, "blocked")
            assert len(CALLS) == 8  # a ninth may cost more than is left
            info = await handle.info()
            assert "0.8 USD of 1 USD are spent" in (info.reason or "")
            assert "perdure budget raise" in (info.reason or "")
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)  # it holds no memory
            found = await account(engine, thrifty.name, "r")
            assert (found.spent, found.reserved, found.left) == (Decimal("0.8"), 0, Decimal("0.2"))
            assert found.waiting == 1
            await engine.budgets.raise_by(thrifty.name, usd="0.3", owner="r")
            await until(lambda: len(CALLS) == 11)
            await reaches(handle, "blocked")
            await engine.budgets.raise_by(thrifty.name, usd=1)
            assert await handle.result() == 12
            assert len(CALLS) == 12
            assert (await account(engine, thrifty.name, "r")).spent == Decimal("1.2")

    run(main)


def test_calls_at_once_never_reserve_more_than_there_is(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(many(30), id="r")
            await reaches(handle, "blocked")
            assert len(CALLS) == 8
            assert AT_ONCE["most"] <= 3
            told = (await handle.info()).reason or ""
            assert "nor do 21 more" in told
            assert told.count("perdure budget raise") == 1
            (cause,) = (await handle.why()).causes
            assert "21 more steps wait for it" in cause.what
            await engine.budgets.set(many.name, usd=20)
            assert await handle.result() == 30
            assert AT_ONCE["most"] > 3

    run(main)


def test_a_budget_may_fail_the_step(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            told = await engine.run(strict(12), id="r")
            assert len(CALLS) == 8
            assert "0.8 USD of 1 USD are spent" in told
            assert "this call may cost 0.3 USD" in told
            assert await engine.run(strict(3), id="other") == "enough"

    run(main)


def test_what_is_reserved_for_others_fails_no_call(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows yet whether there is no money: the call waits for them, also where it were to fail."""
    monkeypatch.setattr("perdure.runtime.purse.CROWD_MAX", 0.0)
    monkeypatch.setattr("perdure.runtime.purse.CROWD_NAP", 0.02)

    async def main() -> None:
        gate = asyncio.Event()
        GATES.append(gate)
        async with place.engine() as engine:
            handle = await engine.start(crowded(), id="a")

            async def waits() -> bool:
                return (
                    len(await of_kind(handle, events.StepParked)) > 0 or (await handle.status()) == "failed"
                )

            await until(waits)
            gate.set()
            assert await handle.result() == ["LONG", "SHORT"]

    run(main)


def test_a_person_may_let_one_call_go_beyond(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asking(10), id="r")
            for calls in (8, 9):
                await until(lambda calls=calls: len(CALLS) == calls)
                await until(lambda: decided(handle, "asks"))
            assert await handle.result() == 10
            assert (await account(engine, asking.name, "r")).spent == 1
            reruns = await of_kind(handle, events.StepRerun)
            assert [each.raised for each in reruns] == [False, False]

    async def decided(handle: perdure.Handle[Any], name: str) -> bool:
        try:
            await handle.resolve(name, rerun=True, by="alice")
        except perdure.NothingToDecideError:
            return False
        return True

    run(main)


def test_a_person_may_do_without_the_call(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asking(9), id="r")
            await reaches(handle, "blocked")
            await handle.resolve("asks", result="NOTHING")
            assert await handle.result() == 9
            other = await engine.start(asking(9), id="other")
            await reaches(other, "blocked")
            await other.resolve("asks", fail="too expensive")
            with pytest.raises(RunFailed, match="too expensive"):
                await other.result()

    run(main)


def test_children_spend_their_ancestors_money(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(parent(4), id="p", key="acme")
            await until(lambda: len(CALLS) == 5)
            info = await engine.budgets.get(f"{parent.name}/run")
            assert info is not None
            (whole,) = info.accounts
            assert whole.owner == "p"

            async def waiting() -> int:
                return int((await account(engine, f"{parent.name}/run", "p")).waiting)

            async def stuck() -> bool:
                return await waiting() >= 1

            await until(stuck)
            await engine.budgets.raise_by(f"{parent.name}/run", usd=3)
            assert await handle.result() == 8
            assert (await account(engine, "tenants", "acme")).spent == Decimal("0.8")

    run(main)


def test_an_engine_has_budgets_for_all(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(helper(1), id="free")
        whole = Budget(usd=1, tokens=550, on_exhausted="fail", per="day")
        async with place.engine(budgets=[whole]) as engine:
            with pytest.raises(RunFailed, match="550 tokens"):
                await engine.run(helper(9), id="r")
            assert len(CALLS) == 1 + 4

    run(main)


def test_a_call_of_unknown_cost_goes_alone_at_first(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(unsaid(20), id="r")
            await reaches(handle, "blocked")
            found = await account(engine, unsaid.name, "r")
            assert found.spent <= 1
            assert found.spent == Decimal("0.1") * len(CALLS)
            await engine.budgets.raise_by(unsaid.name, usd=9)
            assert await handle.result() == 20

    run(main)


def test_failed_attempts_cost_what_they_have_cost(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(stubborn(), id="r")
            found = await account(engine, stubborn.name, "r")
            assert (found.spent, found.reserved, found.calls) == (Decimal("0.3"), 0, 3)

    run(main)


def test_the_next_day_has_money_of_its_own(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(daily(9), id="r")
            await reaches(handle, "blocked")
            (parked,) = await of_kind(handle, events.StepParked)
            midnight = datetime.fromtimestamp(time.time(), UTC).replace(
                hour=0, minute=0, second=0, microsecond=0
            ) + timedelta(days=1)
            assert parked.budget.until == midnight.timestamp()
        place.ahead = midnight.timestamp() - time.time() + 1
        async with place.engine() as engine:
            assert await engine.get("r").result() == 9
            info = await engine.budgets.get(daily.name)
            assert info is not None
            assert [each.spent for each in info.accounts] == [Decimal("0.8"), Decimal("0.1")]

    run(main)


def test_a_spike_opens_a_breaker_until_somebody_closes_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(spiky(2), id="r")
            await reaches(handle, "blocked")
            assert len(CALLS) == 1
            found = await account(engine, spiky.name, "r")
            assert found.tripped_since is not None
            assert "breaker" in ((await handle.info()).reason or "")
            await engine.budgets.close_breaker(spiky.name)
            assert await handle.result() == 2

    run(main)


def test_a_step_that_waits_for_money_may_be_given_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(gives_up(), id="r")
            assert await handle.result() == "did without"
            assert len(CALLS) == 8
            await engine.budgets.raise_by(gives_up.name, usd=5)
        async with place.engine() as engine:  # and a replay agrees
            fork = await engine.get("r").fork(id="again")
            assert await fork.result() == "did without"
            assert len(CALLS) == 8

    run(main)


def test_why_tells_of_the_budget(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(thrifty(12), id="r")
            await reaches(handle, "blocked")
            found = await handle.why()
            (cause,) = found.causes
            assert cause.kind == "budget"
            assert "perdure budget raise" in cause.todo
            await handle.cancel()
            await reaches(handle, "cancelled")

    run(main)


def test_steps_in_queues_are_charged_to_whoever_sent_them(place: Place) -> None:
    async def main() -> None:
        async with place.engine(queues=["default", "models"], evict_after=0.05) as engine:
            handle = await engine.start(elsewhere(9), id="r")
            await until(lambda: len(CALLS) == 8)

            async def waits() -> bool:
                return bool((await account(engine, elsewhere.name, "r")).waiting == 1)

            await until(waits)
            sent = await of_kind(handle, events.StepSent)
            await reaches(engine.get(sent[-1].run), "blocked")
            assert "no money" in (await handle.why()).causes[0].what
            await engine.budgets.raise_by(elsewhere.name, usd=1)
            assert await handle.result() == 9
            assert (await account(engine, elsewhere.name, "r")).spent == Decimal("0.9")
            CALLS.clear()
            assert await engine.run(strict_elsewhere(), id="s") == len(CALLS) == 8

    run(main)


def test_steps_that_mustnt_happen_twice_ask_for_money_first(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(only_once(9), id="r")
            await reaches(handle, "blocked")
            assert len(CALLS) == 8
            await engine.budgets.raise_by(only_once.name, usd=1)
            assert await handle.result() == 9
            found = await account(engine, only_once.name, "r")
            assert (found.spent, found.reserved, found.unknown) == (Decimal("0.9"), 0, 0)

    run(main)


def test_a_run_that_is_loaded_asks_again(place: Place) -> None:
    """As after a move to another database, where nobody knows that it waits."""

    async def main() -> None:
        if place.url != "memory:":
            return
        async with place.engine() as engine:
            await reaches(await engine.start(thrifty(9), id="r"), "blocked")
        place.shared.budgets.waits.clear()
        async with place.engine() as engine:
            await engine.budgets.raise_by(thrifty.name, usd=1)
            handle = engine.get("r")
            assert await handle.status() == "blocked"
            await handle.send("hello", 1)
            assert await handle.result() == 9

    run(main)


def test_without_budgets_the_store_is_asked_once_in_a_while(place: Place) -> None:
    asked: list[int] = []

    class Watching(Wrapped):
        @property
        def budgets(self) -> Any:
            inner = self.inner.budgets

            class Part:
                async def reserve(self, asks: Sequence[Any], *, now: float) -> Any:
                    asked.append(len(asks))
                    return await inner.reserve(asks, now=now)

                async def define(self, terms: Sequence[Any], *, now: float) -> Any:
                    return []

            return Part()

    async def main() -> None:
        async with place.engine(Watching) as engine:
            await engine.run(helper(10), id="r")
        assert sum(asked) == 1

    run(main)


def test_a_worker_hears_of_the_first_budget(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.runtime.purse.NONE_FOR", 0.05)

    async def main() -> None:
        async with place.engine() as engine:
            worker = engine._worker
            assert worker is not None
            store = place.store()
            await store.open()
            for definition in await store.budgets.definitions():
                await store.budgets.change(Forget(definition.terms.name), now=0.0)
            await engine.run(helper(1), id="before")
            assert worker.steps.purse._none_until > 0
            await store.budgets.define([Terms("all", cost=nanos(1))], now=0.0)
            await asyncio.sleep(0.06)
            handle = await engine.start(helper(9), id="after")
            await reaches(handle, "blocked")
            assert len(CALLS) == 1 + 8
            await store.close()

    run(main)


def test_what_caps_nothing_is_no_budget() -> None:
    for wrong in (
        {},
        {"usd": -1},
        {"usd": "much"},
        {"tokens": 1.5},
        {"usd": 1, "per": "week"},
        {"usd": 1, "per": ("run", "key")},
        {"usd": 1, "on_exhausted": "cry"},
        {"usd": 1, "name": ""},
        {"spike": True},
    ):
        with pytest.raises(ConfigurationError):
            Budget(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="give a Budget"):
        Engine("memory:", budgets=[5])  # type: ignore[list-item]
    with pytest.raises(DuplicateNameError):
        Engine("memory:", budgets=[Budget(usd=1, name="x"), Budget(usd=2, name="x")])


def test_a_budget_is_raised_for_one_of_many(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            for id in ("a", "b"):
                await engine.run(thrifty(1), id=id)
            with pytest.raises(UsageError, match="say whose"):
                await engine.budgets.raise_by(thrifty.name, usd=1)
            with pytest.raises(UsageError, match="no budget 'nothing'"):
                await engine.budgets.raise_by("nothing", usd=1)
            await engine.budgets.raise_by(thrifty.name, usd=1, owner="a")
            assert (await account(engine, thrifty.name, "a")).usd == 2
            assert (await account(engine, thrifty.name, "b")).usd == 1
            assert await status_of(engine, "a") == "completed"

    run(main)
