"""Steps as workflow code sees them: results, errors, arguments and identities, the same live and replayed."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from engine_kit import Place, bury, crash, history, of_kind, recorded, run, says, until

import perdure
from perdure import Handle, Retry, RunFailed, events, step, workflow
from perdure.errors import UsageError


class Colour(enum.Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: float


class Item(msgspec.Struct):
    name: str
    price: Decimal


@dataclasses.dataclass
class Report:
    id: uuid.UUID
    at: datetime
    took: timedelta
    colour: Colour
    points: tuple[Point, ...]
    tags: set[int]  # whose order no hash seed decides
    items: dict[str, Item]
    raw: bytes
    path: Path
    nothing: None = None


MADE = Report(
    uuid.UUID(int=7),
    datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    timedelta(days=1, microseconds=3),
    Colour.RED,
    (Point(1, 2.5), Point(-1, 0.1)),
    {3, 1},
    {"tea": Item("tea", Decimal("3.10"))},
    b"\x00\xff",
    Path("a/b"),
)


@step
async def makes_async(report: Report) -> Report:
    return report


@step
def makes_sync(report: Report) -> Report:
    return report


@workflow
async def reports(given: Report, pause: int) -> tuple[Report, Report, str]:
    first, second = await makes_async(given), await makes_sync(given)
    await asyncio.sleep(pause)
    shapes = repr((first, second)) if (first, second) == (MADE, MADE) else "different"
    return first, second, shapes + await says(type(first.points[0]).__name__)


async def both_recorded(handle: Handle[Any]) -> bool:
    return len(await recorded(handle)) == 2


def test_typed_results_are_the_same_live_and_replayed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            live = await engine.run(reports(MADE, 0), id="live")
            handle = await engine.start(reports(MADE, 3600), id="broken")
            await until(lambda: both_recorded(handle))
            await crash(engine)
        await bury(place)
        place.ahead += 3600
        async with place.engine() as engine:
            replayed = await engine.get("broken").result()
        assert live == replayed
        assert live[:2] == (MADE, MADE)
        assert live[2] == repr((MADE, MADE)) + "Point"

    run(main)


@step
async def changes(rows: list[int]) -> int:
    rows.append(9)
    return len(rows)


@step
def changes_in_a_thread(rows: list[int]) -> int:
    rows.clear()
    return len(rows)


@workflow
async def lends(rows: list[int]) -> list[Any]:
    return [await changes(rows), await changes_in_a_thread(rows), await changes(rows), rows]


def test_what_a_step_does_to_its_arguments_stays_with_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(lends([1, 2])) == [3, 0, 3, [1, 2]]

    run(main)


class CardDeclined(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code
        self.hint = {"try": ["another card"]}


@step
async def charges(amount: int) -> None:
    try:
        raise KeyError("gateway")
    except KeyError as cause:
        error = CardDeclined(f"no {amount}", 51)
        error.add_note("told by the bank")
        raise error from cause


@workflow
async def pays() -> dict[str, Any]:
    try:
        await charges(30)
    except CardDeclined as error:
        found = perdure.failure(error)
        assert found is not None
        return {
            "args": list(error.args),
            "code": error.code,
            "hint": error.hint,
            "notes": error.__notes__,
            "cause": repr(error.__cause__),
            "step": found.step.rpartition(".")[2],
            "attempts": found.attempts,
            "type": found.type.rpartition(".")[2],
            "line": "raise error from cause" in found.traceback,
        }
    return {}


@workflow
async def lets_it_out() -> None:
    await charges(30)


def test_a_steps_error_comes_back_as_what_it_was(place: Place) -> None:
    expected = {
        "args": ["no 30", 51],
        "code": 51,
        "hint": {"try": ["another card"]},
        "notes": ["told by the bank"],
        "cause": "KeyError('gateway')",
        "step": "charges#1",
        "attempts": 1,
        "type": "CardDeclined",
        "line": True,
    }

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(pays(), id="a") == expected
            with pytest.raises(RunFailed, match=r"CardDeclined.*no 30") as info:
                await engine.run(lets_it_out(), id="b")
            assert isinstance(info.value.__cause__, CardDeclined)
            assert info.value.__cause__.code == 51
            assert info.value.run_id == "b"
            found = perdure.failure(info.value)
            assert found is None or found.type.endswith("CardDeclined")
        async with place.engine() as engine:
            assert await engine.run(pays(), id="a") == expected
            with pytest.raises(RunFailed, match=r"CardDeclined.*no 30"):
                await engine.run(lets_it_out(), id="b")

    run(main)


SEEN: list[tuple[str, int, str]] = []


@step(retry=Retry(max_attempts=3, initial=0.0))
def who(name: str) -> str:
    info = perdure.step_info()
    SEEN.append((info.step_id, info.attempt, perdure.idempotency_key()))
    assert info.run_id == "a"
    assert info.name.endswith(".who")
    if info.attempt < 3:
        raise OSError("again")
    return perdure.idempotency_key()


@workflow
async def asks_who() -> list[str]:
    first = await who("x")
    second, third = await asyncio.gather(who("x"), who.with_options(key="call-7")("x"))
    return [first, second, third]


def test_a_step_knows_itself_by_one_key_over_all_attempts(place: Place) -> None:
    async def main() -> None:
        SEEN.clear()
        async with place.engine() as engine:
            keys = await engine.run(asks_who(), id="a")
        assert len(set(keys)) == 3
        assert {len(key) for key in keys} == {32}
        by_step = {id: [entry[1:] for entry in SEEN if entry[0] == id] for id, _, _ in SEEN}
        assert sorted(by_step.values()) == sorted([(n, key) for n in (1, 2, 3)] for key in keys)

    run(main)


def test_outside_of_steps_and_runs_the_helpers_say_so_or_do_the_plain_thing() -> None:
    with pytest.raises(UsageError, match="only inside a step"):
        perdure.step_info()
    with pytest.raises(UsageError, match="only in workflow code"):
        perdure.info()
    assert perdure.idempotency_key() != perdure.idempotency_key()
    assert perdure.failure(ValueError("x")) is None
    assert 0 <= perdure.random() < 1
    assert perdure.now().tzinfo is UTC
    assert perdure.uuid4() != perdure.uuid4()


def test_outside_of_runs_steps_and_workflows_are_plain_functions() -> None:
    async def main() -> None:
        assert await says("x") == "x"
        assert await lends([1]) == [2, 0, 1, [9]]  # plain functions share their arguments
        child = await perdure.start(lends([]))
        assert (await child.result())[3] == [9]
        with pytest.raises(CardDeclined):
            await lets_it_out()
        assert await asyncio.create_task(says("y")) == "y"
        await perdure.sleep(timedelta(milliseconds=1))
        await perdure.sleep_until(datetime.now(UTC) - timedelta(days=1))

    run(main)


@step
async def alone() -> str:
    return (await asyncio.gather(asyncio.sleep(0, "inner"), asyncio.to_thread(str, 5)))[1]


@workflow
async def nothing_but_steps(n: int) -> int:
    results = await asyncio.gather(*(alone() for _ in range(n)))
    return len(results)


@pytest.mark.parametrize("limit", [1, 3])
def test_more_steps_than_there_is_room_for_wait_in_line(place: Place, limit: int) -> None:
    async def main() -> None:
        async with place.engine(concurrency=limit, threads=1) as engine:
            handle = await engine.start(nothing_but_steps(40))
            assert await handle.result() == 40
            assert len(await recorded(handle)) == 40

    run(main)


@workflow
async def same_key_twice() -> str:
    keyed = says.with_options(key="k")
    try:
        await asyncio.gather(keyed("a"), keyed("b"))
    except UsageError as error:
        return str(error)
    return "it went through"


def test_two_open_calls_of_one_key_are_refused_with_the_reason(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert "a key of its own" in await engine.run(same_key_twice(), id="a")

    run(main)


@workflow
async def records(size: int) -> int:
    return len(await says("x" * size))


def test_the_history_keeps_small_inputs_and_a_fingerprint_of_large_ones(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            small = await engine.start(records(10), id="small")
            large = await engine.start(records(5000), id="large")
            assert await small.result() + await large.result() == 5010
            (kept,) = await of_kind(small, events.StepCompleted)
            (digest,) = await of_kind(large, events.StepCompleted)
            assert kept.input is not None
            assert kept.fingerprint is None
            assert digest.input is None
            assert len(digest.fingerprint) == 16
            assert [type(event).__name__ for event in await history(small)] == [
                "RunStarted",
                "StepCompleted",
                "RunCompleted",
            ]

    run(main)
