"""What steps spend is booked once, whatever happens to them, and nothing that may have been spent is hidden."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Ledger as Deeds
from engine_kit import Mortal, Place, Places, Wrapped, bury, crash, run, until

import perdure
from perdure import Engine, Retry, Spend, Usage, step, workflow
from perdure.errors import ConfigurationError, RunFailed
from perdure.runtime.purse import Purse
from perdure.storage.ledger import EntryState
from perdure.storage.records import Append

PAID: list[str] = []
GOES_ON = threading.Event()
SPENDS: dict[str, Any] = {"retry": Retry(initial=0.001, max_attempts=3), "spends": True}


@pytest.fixture(autouse=True)
def nothing_is_paid_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    PAID.clear()
    GOES_ON.clear()
    monkeypatch.setattr("perdure.runtime.spending._spenders", set())


def pay(what: str, cost: str = "0.01") -> None:
    """Call a model, as far as the ledger is concerned."""
    PAID.append(what)
    perdure.record_usage(model="m", provider="p", input_tokens=100, output_tokens=10, cost=cost)


@step(spends=True)
async def asks(what: str) -> str:
    pay(what)
    await asyncio.sleep(0)
    return what.upper()


@step(spends=True)
def asks_in_a_thread(what: str) -> str:
    pay(what)
    return what.upper()


@step(**SPENDS)
async def pays_and_fails(what: str) -> str:
    pay(what)
    if perdure.step_info().attempt < 3:
        raise ValueError("not JSON")
    return what


@step
async def asks_nobody(what: str) -> str:
    return what


@workflow
async def research() -> list[str]:
    first = await asks("a")
    both = await asyncio.gather(asks_in_a_thread("b"), pays_and_fails("c"))
    return [first, *both, await asks_nobody("d"), await asks("e")]


@workflow
async def child(what: str) -> str:
    return await asks(what)


@workflow
async def family() -> list[str]:
    return [await asks("a"), await child("b"), *await asyncio.gather(child("c"), child("d"))]


async def usage(engine: Engine, id: str) -> Usage:
    return await engine.get(id).usage()


async def entries(place: Place, id: str) -> list[Any]:
    store = place.store()
    await store.open()
    try:
        (row,) = await store.get([id])
        return [] if row is None else await store.ledger.entries(row.run)
    finally:
        await store.close()


def test_what_attempts_spend_is_added_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(research(), id="r", key="acme")
            found = await usage(engine, "r")
            assert (found.calls, found.cost, found.input_tokens, found.output_tokens) == (
                6,
                Decimal("0.06"),
                600,
                60,
            )
            assert found.total_tokens == 660
            assert (found.unknown_calls, found.calls_in_flight, found.saved_calls) == (0, 0, 0)
            by_step = {line.name: line.usage.calls for line in await engine.usage("step", run="r")}
            assert by_step == {asks.name: 2, asks_in_a_thread.name: 1, pays_and_fails.name: 3}
            assert [line.name for line in await engine.usage("key")] == ["acme"]
            assert [line.name for line in await engine.usage("workflow")] == [research.name]
            assert [line.usage.cost for line in await engine.usage("model")] == [Decimal("0.06")]
            assert (await engine.usage(workflow="nothing"))[0].usage == Usage()
        assert len(PAID) == 6

    run(main)


def test_a_replay_books_nothing(place: Place) -> None:
    async def main() -> None:
        for _ in range(2):
            async with place.engine() as engine:
                await engine.run(research(), id="r")
                assert (await usage(engine, "r")).calls == 6
        assert len(PAID) == 6

    run(main)


def test_what_children_spend_counts_for_their_parents(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(family(), id="r", key="acme")
            assert (await usage(engine, "r")).calls == 4
            assert {line.name: line.usage.calls for line in await engine.usage("workflow")} == {
                family.name: 1,
                child.name: 3,
            }
            assert [(line.name, line.usage.calls) for line in await engine.usage("key")] == [("acme", 4)]

    run(main)


class Watching(Wrapped):
    """Keeps what is appended."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.appends: list[Append] = []

    def append(self, batch: Sequence[Append]) -> Any:
        self.appends += batch
        return self.inner.append(batch)


@workflow
async def frugal() -> list[str]:
    return [await asks_nobody("a"), *await asyncio.gather(asks_nobody("b"), asks_nobody("c"))]


def test_steps_that_spend_nothing_cost_nothing_more(place: Place) -> None:
    async def main() -> None:
        watching: list[Watching] = []

        def wrap(inner: Any) -> Watching:
            watching.append(Watching(inner))
            return watching[-1]

        async with place.engine(wrap) as engine:
            await engine.run(frugal(), id="r")
        assert [effect for append in watching[0].appends for effect in append.effects] == []
        kinds = [b"step_started" in data for append in watching[0].appends for data in append.events]
        assert not any(kinds)

    run(main)


# -- crashes --------------------------------------------------------------------------------------------


async def life(place: Place, shape: Any, dies_at: int, commits: bool) -> bool:
    """One engine, until it dies at its n-th append, or has nothing more to do. Returns whether it died."""
    mortal: list[Mortal] = []

    def wrap(inner: Any) -> Mortal:
        mortal.append(Mortal(inner, dies_at, commits, Deeds()))
        mortal[-1].ledger.ids = _AnyId()
        return mortal[-1]

    engine = place.engine(wrap)
    await engine.__aenter__()
    driving = asyncio.ensure_future(engine.run(shape(), id="r"))
    dying = asyncio.ensure_future(mortal[0].dead.wait())
    await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
    died = mortal[0].dead.is_set()
    driving.cancel()
    dying.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await driving
    await crash(engine)
    await bury(place)
    return died


class _AnyId(dict[int, str]):
    def __missing__(self, key: int) -> str:
        return str(key)


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
@pytest.mark.parametrize("shape", [research, family], ids=["research", "family"])
def test_a_crash_at_any_append_loses_no_spending_and_counts_none_twice(
    shape: Any, commits: bool, make_place: Places
) -> None:
    calls = {research.name: 6, family.name: 4}[shape.name]

    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            PAID.clear()
            place = make_place()
            died = await life(place, shape, number, commits)
            async with place.engine() as engine:
                await engine.run(shape(), id="r")
                found = await usage(engine, "r")
            # each call that was made is known, or shows as unknown; and each outcome is booked once
            assert found.calls == calls, f"died at append {number}"
            assert found.calls + found.unknown_calls >= len(PAID), f"died at append {number}"
            assert found.cost == Decimal("0.01") * calls
            assert found.calls_in_flight == 0
            if not died:
                assert (found.unknown_calls, len(PAID)) == (0, calls)
            elif not commits:  # then nothing is open whose body didn't begin
                assert found.calls + found.unknown_calls == len(PAID)
        assert number > calls

    run(main)


def test_a_restart_spares_what_was_paid(place: Place) -> None:
    async def main() -> None:
        died = await life(place, research, 4, commits=True)
        assert died
        before = len(PAID)
        async with place.engine() as engine:
            await engine.run(research(), id="r")
            found = await usage(engine, "r")
            assert found.saved_calls >= 1
            assert found.saved_cost == Decimal("0.01") * found.saved_calls
            assert found.saved_tokens == 110 * found.saved_calls
            assert found.saved_calls <= before

    run(main)


# -- attempts of which nobody knows --------------------------------------------------------------------


@step(retry=Retry(initial=0.001, max_attempts=2), spends=lambda what: Spend("gpt-5", output_tokens=len(what)))
async def raises(what: str) -> None:
    PAID.append(what)
    raise {"timeout": TimeoutError, "refused": ConnectionRefusedError, "reset": ConnectionResetError}.get(
        what, ValueError
    )(what)


@workflow
async def fails(what: str) -> None:
    await raises(what)


@pytest.mark.parametrize(
    ("what", "unknown"), [("timeout", 2), ("reset", 2), ("refused", 0), ("something else", 0)]
)
def test_an_error_that_tells_nothing_leaves_unknown_spend(place: Place, what: str, unknown: int) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with suppress(RunFailed):
                await engine.run(fails(what), id="r")
            found = await usage(engine, "r")
            assert (found.unknown_calls, found.calls, found.calls_in_flight) == (unknown, 0, 0)
            assert (found.unknown_cost > 0) == (unknown > 0)  # of a model whose price is known
        assert len(PAID) == 2

    run(main)


@step(timeout=0.01, retry=Retry(max_attempts=1), spends=True)
async def takes_too_long() -> None:
    await asyncio.sleep(60)


@step(timeout=0.01, retry=Retry(max_attempts=1), spends=True)
def takes_too_long_in_a_thread() -> None:
    GOES_ON.wait(60)
    pay("late")


@workflow
async def times_out(in_thread: bool) -> str:
    try:
        await (takes_too_long_in_a_thread() if in_thread else takes_too_long())
    except TimeoutError:
        return "too late"
    return "in time"


def test_a_time_out_leaves_unknown_spend(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(times_out(False), id="r") == "too late"
            assert (await usage(engine, "r")).unknown_calls == 1

    run(main)


def test_a_thread_that_goes_on_tells_what_it_spent_after_all(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(times_out(True), id="r") == "too late"
            assert (await usage(engine, "r")).unknown_calls == 1
            GOES_ON.set()

            async def known() -> bool:
                return (await usage(engine, "r")).calls == 1

            await until(known)

    run(main)


@step(spends=True)
async def pays_and_waits() -> None:
    pay("waits")
    await asyncio.sleep(60)


@step(spends=True)
async def waits() -> None:
    PAID.append("waits")
    await asyncio.sleep(60)


@workflow
async def gives_up() -> str:
    for each in (pays_and_waits, waits):
        task = asyncio.create_task(each())
        await perdure.receive("go on")
        task.cancel()
    return "gave up"


def test_what_is_given_up_is_booked_all_the_same(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(gives_up(), id="r")
            for number in (1, 2):
                await until(lambda number=number: len(PAID) == number)
                await handle.send("go on", None)
            await handle.result()

            async def booked() -> bool:
                found = await handle.usage()
                return (found.calls, found.unknown_calls, found.calls_in_flight) == (1, 2, 0)

            await until(booked)

    run(main)


def test_what_is_being_spent_shows_as_in_flight(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(gives_up(), id="r")
            await until(lambda: PAID)
            found = await handle.usage()
            assert (found.calls_in_flight, found.unknown_calls) == (1, 0)
            await handle.terminate()
            found = await handle.usage()
            assert (found.calls_in_flight, found.unknown_calls) == (0, 1)

    run(main)


# -- retries, forks, other places ----------------------------------------------------------------------

BROKEN = [True]


@step
async def breaks() -> str:
    if BROKEN[0]:
        raise ValueError("broken")
    return "mended"


@workflow
async def breaks_late() -> list[str]:
    return [await asks("a"), await child("b"), await breaks(), await asks("c")]


def test_a_retry_spares_what_was_paid(place: Place) -> None:
    async def main() -> None:
        BROKEN[0] = True
        async with place.engine() as engine:
            handle = await engine.start(breaks_late(), id="r")
            with suppress(RunFailed):
                await handle.result()
            BROKEN[0] = False
            await handle.retry()
            await handle.result()
            found = await handle.usage()
            assert (found.calls, found.saved_calls, len(PAID)) == (3, 2, 3)

    run(main)


def test_a_fork_does_not_count_what_it_reuses(place: Place) -> None:
    async def main() -> None:
        BROKEN[0] = False
        async with place.engine() as engine:
            handle = await engine.start(breaks_late(), id="r")
            await handle.result()
            fork = await handle.fork(id="f")
            await fork.result()
            found = await fork.usage()
            assert (found.calls, found.cost, found.saved_calls) == (0, Decimal(0), 3)
            assert found.saved_cost == Decimal("0.03")
            again = await fork.fork(id="g", at=breaks.name)
            await again.result()
            found = await again.usage()
            assert (found.calls, found.saved_calls) == (1, 2)
            assert (await handle.usage()).calls == 3
            assert (await engine.usage())[0].usage.calls == 4 == len(PAID)

    run(main)


@step(queue="elsewhere", spends=True)
async def asks_elsewhere(what: str) -> str:
    pay(what)
    return what


@step(once=True, spends=True)
async def asks_once(what: str) -> str:
    pay(what)
    return what


@step(process=True, spends=True)
def asks_in_a_process(what: str) -> str:
    perdure.record_usage(model="m", input_tokens=100, cost="0.01")
    return what


@workflow
async def all_over() -> list[str]:
    return [await asks_elsewhere("a"), await asks_once("b"), await asks_in_a_process("c")]


def test_it_counts_wherever_a_step_executes(place: Place) -> None:
    async def main() -> None:
        async with place.engine(queues=["default", "elsewhere"]) as engine:
            await engine.run(all_over(), id="r")
            found = await usage(engine, "r")
            assert (found.calls, found.unknown_calls, found.cost) == (3, 0, Decimal("0.03"))
            assert {line.name for line in await engine.usage("run")} == {"r"}

    run(main)


@step
async def learns(what: str) -> str:
    if what == "waits":
        PAID.append(what)
        await asyncio.sleep(60)
    pay(what)
    return what


@workflow
async def learning() -> None:
    await learns("a")
    await learns("waits")


def test_a_step_that_has_spent_is_known_to_spend(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(learning(), id="r")
            await until(lambda: len(PAID) == 2)
            assert [entry.state for entry in await entries(place, "r")] == [EntryState.SPENT, EntryState.OPEN]
            await handle.terminate()

    run(main)


LIMIT = perdure.RateLimit("model", requests=perdure.Rate(1000, per=1))


@step(limit=LIMIT, spends=True)
async def is_turned_away() -> str:
    PAID.append("asked")
    if len(PAID) < 3:
        raise perdure.RateLimited(after=0.01)
    pay("paid")
    return "told"


@workflow
async def turned_away() -> str:
    return await is_turned_away()


def test_being_turned_away_costs_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(turned_away(), id="r")
            found = await usage(engine, "r")
            assert (found.calls, found.unknown_calls, found.calls_in_flight) == (1, 0, 0)

    run(main)


# -- what is told ---------------------------------------------------------------------------------------


@step
async def tells(cost: str | None) -> None:
    perdure.record_usage(model="gpt-5", input_tokens=1000, output_tokens=100, cached_tokens=200)
    perdure.record_usage(model="nobody-knows-1", input_tokens=5)
    perdure.record_usage(cost=0.5, key="other")


@workflow
async def telling() -> None:
    await tells(None)


def test_prices_come_from_the_list_or_are_given_or_unknown(place: Place) -> None:
    pytest.importorskip("genai_prices", reason="the price list isn't installed")

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(telling(), id="r", key="acme")
            found = {line.name: line.usage for line in await engine.usage("model")}
            assert found["gpt-5"].cost == Decimal("0.002025")
            assert (found["nobody-knows-1"].cost, found["nobody-knows-1"].unpriced_calls) == (Decimal(0), 1)
            assert found[None].cost == Decimal("0.5")
            assert {line.name: line.usage.calls for line in await engine.usage("key")} == {
                "acme": 2,
                "other": 1,
            }
        (priced, unpriced, given) = await entries(place, "r")
        assert (priced.used.provider, unpriced.used.cost, given.used.price) == ("openai", None, "given")
        assert priced.used.price.startswith("genai-prices ")

    run(main)


@workflow
async def misused() -> None:
    perdure.record_usage(model="m")


def test_misuse_is_told(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            with pytest.raises(RunFailed, match="works only inside a step"):
                await engine.run(misused())
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").usage()

    run(main)
    perdure.record_usage(model="m", input_tokens=1)  # outside of an engine it does nothing
    for wrong in ({"input_tokens": -1}, {"cost": -1}, {"response": object()}):
        with pytest.raises(perdure.errors.UsageError):
            perdure.record_usage(**wrong)
    with pytest.raises(ConfigurationError, match="spends="):
        step(spends="yes")(asks.function)  # type: ignore[call-overload]


# -- between the purse and the first line of a body ---------------------------------------------------------

IN_FLIGHT: list[int] = []


@step(spends=True)
async def looks_what_is_in_flight(id: str) -> None:
    engine = ENGINES[-1]
    IN_FLIGHT.append((await engine.get(id).usage()).calls_in_flight)


ENGINES: list[Engine] = []


@workflow
async def is_looked_at() -> None:
    await looks_what_is_in_flight(perdure.info().id)


def test_a_body_never_begins_before_the_ledger_knows_of_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for money for long isn't executing: a note that it is would let its body begin too early."""

    async def main() -> None:
        asked, goes_on = asyncio.Event(), asyncio.Event()

        async def slow(self: Purse, attempt: Any) -> None:
            asked.set()
            await goes_on.wait()

        async with place.engine() as engine:
            ENGINES.append(engine)
            worker: Any = engine._worker
            monkeypatch.setattr(Purse, "take", slow)
            handle = await engine.start(is_looked_at(), id="r")
            await asked.wait()
            await asyncio.sleep(0)
            worker._residency.note(-1.0)  # as every 100 ms, of what executes for so long
            goes_on.set()
            await handle.result()
            kinds = [type(event).__name__ async for event in handle.history()]
            assert kinds.count("StepStarted") == 1
        assert IN_FLIGHT == [1], "what it may spend is in the ledger when it begins"

    IN_FLIGHT.clear()
    run(main)
