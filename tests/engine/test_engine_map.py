"""`perdure.map` inside runs: windows, limits, names, cancellation, taking up; and outside of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, history, of_kind, recorded, run, until

import perdure
from perdure import MapFailed, MapResult, events, step, workflow
from perdure.errors import UsageError

BUSY: set[int] = set()
MOST: list[int] = []
DOORS: dict[int, asyncio.Event] = {}
SIGNS = {"succeeded": "+", "failed": "x", "cancelled": "~", "skipped": "."}


@step(name="map.double")
async def double(number: int) -> int:
    return number * 2


@step(name="map.odd_only")
async def odd_only(number: int) -> int:
    if number % 2 == 0:
        raise ValueError(number)
    return number


@step(name="map.waits")
async def waits(number: int) -> int:
    """Ends when its door is opened."""
    BUSY.add(number)
    MOST.append(len(BUSY))
    try:
        await DOORS.setdefault(number, asyncio.Event()).wait()
        if number < 0:
            raise ValueError(number)
        return number
    finally:
        BUSY.discard(number)


async def both(number: int) -> int:
    return await double(number) + await odd_only(number)


@workflow(name="map.child")
async def child(number: int) -> int:
    return await odd_only(number)


@workflow(name="map.over")
async def over(what: str, numbers: list[int], limits: dict[str, Any]) -> Any:
    functions: dict[str, Any] = {
        "double": double,
        "odd": odd_only,
        "both": both,
        "child": child,
        "waits": waits,
    }
    try:
        result: MapResult[int] = await perdure.map(functions[what], numbers, **limits)
    except MapFailed as error:
        return ["failed", str(error), *told(error.result)]
    return told(result)


def told(result: MapResult[int]) -> list[Any]:
    assert len(result) == len(result.results) == len(result.statuses) == len(list(result))
    assert result.succeeded == result.statuses.count("succeeded")
    assert result.failed == result.statuses.count("failed") == len(result.errors)
    signs = "".join(SIGNS[status] for status in result.statuses)
    return [result.results, signs, {str(index): str(error) for index, error in result.errors.items()}]


@pytest.fixture(autouse=True)
def fresh() -> None:
    BUSY.clear()
    MOST.clear()
    DOORS.clear()


async def opens(*numbers: int) -> None:
    """Let these bodies end, one after the other."""
    for number in numbers:
        await until(lambda number=number: number in BUSY)
        DOORS[number].set()
        await until(lambda number=number: number not in BUSY)


def outcome(place: Place, what: str, numbers: list[int], **limits: Any) -> Any:
    """What comes of a map, inside a run and, just the same, in plain asyncio code."""

    async def main() -> Any:
        async with place.engine() as engine:
            return await engine.run(over(what, numbers, limits))

    live = run(main)
    assert run(lambda: over.function(what, numbers, limits)) == live
    return live


# -- what comes of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["double", "both", "child"])
def test_results_come_in_the_order_of_the_items(place: Place, what: str) -> None:
    numbers = [9, 1, 5, 3]
    factor = {"double": 2, "both": 3, "child": 1}[what]
    assert outcome(place, what, numbers, concurrency=2) == [[n * factor for n in numbers], "++++", {}]


def test_without_limits_the_first_failure_cancels_the_rest(memory: Place) -> None:
    kind, message, *rest = outcome(memory, "odd", [1, 4, 3, 5], concurrency=1)
    assert (kind, rest) == ("failed", [[1, None, None, None], "+x..", {"1": "4"}])
    assert "1 of 4 items failed; no limit was given" in message
    assert "item 1: ValueError: 4" in message


def test_failures_are_tolerated_up_to_the_limit(memory: Place) -> None:
    limits: dict[str, Any]
    for limits in ({"max_failures": 2}, {"max_failure_ratio": 0.5}, {"min_successful": 2}):
        numbers = [1, 2, 4, 3]
        expected = [[1, None, None, 3], "+xx+", {"1": "2", "2": "4"}]
        assert outcome(memory, "odd", numbers, concurrency=1, **limits) == expected
        kind, message, _, signs, _ = outcome(memory, "odd", [2, 4, 6, 1], concurrency=1, **limits)
        assert (kind, signs) == ("failed", "xxx.")
        assert next(iter(limits)) in message


def test_a_map_may_end_early(memory: Place) -> None:
    expected = [[1, None, 3, None, None], "+x+..", {"1": "2"}]
    assert outcome(memory, "odd", [1, 2, 3, 5, 7], concurrency=1, min_successful=2) == expected


def test_what_cant_be_reached_is_told_at_once(memory: Place) -> None:
    kind, message, *rest = outcome(memory, "odd", [1, 3], min_successful=3)
    assert (kind, rest) == ("failed", [[None, None], "..", {}])
    assert "the 3 successes" in message


def test_no_items_are_no_failure(memory: Place) -> None:
    assert outcome(memory, "child", []) == [[], "", {}]
    assert outcome(memory, "child", [], max_failure_ratio=0.0) == [[], "", {}]
    assert outcome(memory, "child", [], min_successful=1)[0] == "failed"


def test_the_error_tells_the_first_cause(memory: Place) -> None:
    @workflow(name="map.unhandled")
    async def unhandled() -> None:
        await perdure.map(odd_only, [1, 2])

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed) as caught:
                await engine.run(unhandled())
            failed = caught.value.__cause__
            assert isinstance(failed, MapFailed)
            assert failed.result is None  # it stayed in the run
            assert isinstance(failed.__cause__, ValueError)
            assert "item 1: ValueError: 2" in str(caught.value)

    run(main)


# -- items under way ----------------------------------------------------------------------------------


def test_only_so_many_items_are_under_way(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(over("waits", list(range(7)), {"concurrency": 3}))
            for number in (1, 2, 0, 3, 4, 6, 5):
                await until(lambda: len(BUSY) == min(3, 7 - len(MOST) + len(BUSY)))
                await opens(number)
            assert (await handle.result())[1] == "+++++++"
            assert max(MOST) == 3

    run(main)


@pytest.mark.parametrize(
    ("limits", "open_these", "signs"),
    [({}, (1, -1), "+x~~.."), ({"min_successful": 2}, (1, 2), "+~+~..")],
)
def test_what_is_under_way_is_cancelled(
    place: Place, limits: dict[str, Any], open_these: tuple[int, ...], signs: str
) -> None:
    numbers = [1, -1, 2, 3, 4, 5]

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(over("waits", numbers, {"concurrency": 3, **limits}))
            await opens(*open_these)
            result = await handle.result()
            assert result[-2] == signs
            await until(lambda: not BUSY)  # the bodies have heard of it

    run(main)


def test_a_cancelled_map_cancels_its_items_and_waits_for_them(place: Place) -> None:
    CLEANED.clear()

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(cancelled_with_care())
            await until(lambda: len(BUSY) == 2)
            await handle.cancel("enough")
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert sorted(CLEANED) == [0, 1]
            assert await recorded(handle) == ["1.0/map.double#1", "1.1/map.double#1"]

    run(main)


CLEANED: list[int] = []


async def with_care(number: int) -> None:
    try:
        await waits(number)
    finally:
        await double(number)
        CLEANED.append(number)


@workflow(name="map.cancelled_with_care")
async def cancelled_with_care() -> None:
    await perdure.map(with_care, range(10), concurrency=2)


def test_an_item_that_cancels_itself_has_failed(memory: Place) -> None:
    async def gives_up(number: int) -> int:
        if number == 1:
            raise asyncio.CancelledError
        return number

    @workflow(name="map.gives_up")
    async def itself() -> Any:
        return told(await perdure.map(gives_up, range(3), max_failures=1))

    async def main() -> None:
        async with memory.engine() as engine:
            results, signs, errors = await engine.run(itself())
            assert (results, signs, list(errors)) == ([0, None, 2], "+x+", ["1"])

    run(main)


# -- items come ---------------------------------------------------------------------------------------


def test_items_are_taken_as_there_is_room(memory: Place) -> None:
    taken: list[int] = []

    def counts() -> Iterator[int]:
        while True:
            taken.append(len(taken))
            yield 2 * taken[-1] + 1

    @workflow(name="map.endless")
    async def endless() -> Any:
        taken.clear()
        return told(await perdure.map(odd_only, counts(), concurrency=2, min_successful=5))

    async def main() -> None:
        async with memory.engine() as engine:
            results, signs, _ = await engine.run(endless())
            assert results[:5] == [1, 3, 5, 7, 9]
            assert signs[:5] == "+++++"
            assert len(taken) == len(signs) <= 7  # items that were never taken aren't told of

    run(main)


def test_the_share_of_a_generator_counts_at_its_end(memory: Place) -> None:
    @workflow(name="map.share")
    async def share(numbers: list[int], ratio: float) -> Any:
        try:
            return told(await perdure.map(odd_only, iter(numbers), max_failure_ratio=ratio, concurrency=1))
        except MapFailed as error:
            return told(error.result)

    async def main() -> None:
        async with memory.engine() as engine:
            assert (await engine.run(share([2, 1, 3, 5], 0.25)))[1] == "x+++"
            assert (await engine.run(share([2, 1, 3, 5], 0.2)))[1] == "x+++"
            assert (await engine.run(share([2, 1, 3, 4], 0.25)))[1] == "x++x"

    run(main)


def test_an_iterable_that_fails_ends_the_map(memory: Place) -> None:
    def breaks() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    @workflow(name="map.breaks")
    async def broken() -> str:
        try:
            await perdure.map(waits, breaks())
        except LookupError as error:
            return str(error)
        return "never"

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(broken()) == "no more"
            await until(lambda: not BUSY)

    run(main)


def test_an_item_that_cant_be_recorded_fails_alone(memory: Place) -> None:
    @workflow(name="map.unfit")
    async def unfit(function: str) -> Any:
        items: list[Any] = [1, object(), 3]
        fn: Any = double if function == "step" else child
        return told(await perdure.map(fn, items, max_failures=1))

    async def main() -> None:
        async with memory.engine() as engine:
            for function in ("step", "child"):
                results, signs, errors = await engine.run(unfit(function))
                assert signs == "+x+", (results, errors)
                assert "can't be recorded" in errors["1"]

    run(main)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((double, {1, 2}), "a set"),
        ((double, frozenset()), "a set"),
        ((double, 5), "plain iterable"),
        ((double.function(1), [1]), "Leave out the arguments"),
        ((None, [1]), "not None"),
        ((len, ["x"]), "returned int"),
    ],
)
def test_what_cant_be_mapped_is_told(arguments: tuple[Any, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run(lambda: perdure.map(*arguments, max_failures=9))


@pytest.mark.parametrize("concurrency", [0, -1, 1.5, True, "3"])
def test_concurrency_is_a_number(concurrency: Any) -> None:
    with pytest.raises(UsageError, match="concurrency="):
        run(lambda: perdure.map(double, [1], concurrency=concurrency))


def test_async_iterables_are_refused() -> None:
    async def numbers() -> Any:
        yield 1

    source: Any = numbers()
    with pytest.raises(UsageError, match="plain iterable"):
        run(lambda: perdure.map(double, source))


# -- names, and being taken up ------------------------------------------------------------------------


@workflow(name="map.named")
async def named(order: list[int]) -> None:
    async def one(number: int) -> int:
        for turn in order:  # so that items end in another order than they began
            if turn == number:
                return await both(number)
            await asyncio.sleep(0)
        return number

    await double(0)
    await asyncio.create_task(double(0))
    await perdure.map(one, [1, 3, 5], concurrency=3)
    await perdure.map(one, [1, 3, 5], concurrency=1)
    await asyncio.create_task(both(7))


def test_the_names_of_operations_follow_the_items_and_not_their_order(memory: Place) -> None:
    async def main() -> None:
        found: list[list[str]] = []
        async with memory.engine() as engine:
            for order in ([1, 3, 5], [5, 3, 1]):
                handle = await engine.start(named(order))
                await handle.result()
                found.append(sorted(await recorded(handle)))
        assert found[0] == found[1]
        assert {"1.0/map.double#1", "2.2/map.odd_only#1", "3/map.double#1"} < set(found[0])

    run(main)


def test_a_map_goes_on_where_it_stood(place: Place) -> None:
    """Nothing that is recorded runs again, and the windows of both lives stay small."""

    async def main() -> None:
        ledger = Ledger()
        engine = place.engine(lambda inner: Mortal(inner, 10**9, False, ledger))
        await engine.__aenter__()
        await engine.start(over("waits", list(range(10)), {"concurrency": 3}), id="a")
        await opens(0, 2, 1)
        handle = engine.get("a")
        await until(lambda: len(ledger.recorded) == 3)
        assert len(await recorded(handle)) == 3
        await crash(engine)
        await bury(place)
        BUSY.clear()
        MOST.clear()
        DOORS.clear()
        async with place.engine() as engine:
            for number in range(3, 10):
                await opens(number)
            assert await engine.get("a").result() == [list(range(10)), "+" * 10, {}]
            assert len(MOST) == 7
            assert max(MOST) == 3
            assert len(await recorded(engine.get("a"))) == 10

    run(main)


def test_a_map_survives_leaving_memory(place: Place) -> None:
    @workflow(name="map.sleepy")
    async def sleepy() -> list[int | None]:
        async def one(number: int) -> int:
            await asyncio.sleep(1.2 if number == 1 else 0.01)
            return await double(number)

        return (await perdure.map(one, range(4), concurrency=2)).results

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(sleepy())
            assert await handle.result() == [0, 2, 4, 6]
            fired = await of_kind(handle, events.TimerFired)
            assert len(fired) == 4

    run(main)


def test_a_large_map_keeps_few_tasks(memory: Place) -> None:
    most = 0

    async def counted(number: int) -> int:
        nonlocal most
        most = max(most, len(asyncio.all_tasks(asyncio.get_running_loop())))
        return await double(number)

    @workflow(name="map.large")
    async def large() -> int:
        return (await perdure.map(counted, range(3000))).succeeded

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(large())
            assert await handle.result() == 3000
            assert most <= 101
            assert len(await history(handle)) == 3002

    run(main)
