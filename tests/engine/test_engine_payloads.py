"""Values that can't be kept, ids and names that clash, wrong arguments: a clear error, and nothing is lost."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from engine_kit import Place, greets, of_kind, recorded, run, says, works

import perdure
from perdure import RunConflictError, RunFailed, Status, events, step, workflow
from perdure.errors import (
    ConfigurationError,
    DuplicateNameError,
    DurableCallInStepError,
    PayloadTooLargeError,
)

BIG = "x" * 10_000_000


@step
async def takes(value: Any) -> str:
    return str(type(value))


@step
async def gives(what: str) -> Any:
    return {"object": object(), "nan": {"rows": [1.0, math.nan]}, "big": BIG, "set": {1, 2}}[what]


@step
def gives_text() -> str:
    return None  # type: ignore[return-value]


@workflow
async def tries(what: str) -> str:
    """Each kind of bad value; then a good step, to see that the run is alive."""
    given: dict[str, Any] = {"object": object(), "nan": {"rows": [1.0, math.nan]}, "big": BIG}
    calls = {
        "argument": lambda kind: takes(given[kind]),
        "result": gives,
        "annotation": lambda _: gives_text(),
        "child": lambda kind: echo(given[kind]),
    }
    place, _, kind = what.partition(" ")
    try:
        await calls[place](kind)
    except perdure.NotSerializableError as error:
        return f"{type(error).__name__}: {error} / {await says('alive')}"
    return "it went through"


@workflow
async def echo(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("argument object", ["NotSerializableError", "takes", "object"]),
        ("argument nan", ["NotSerializableError", "takes", "rows", "nan"]),
        ("argument big", ["PayloadTooLargeError", "takes", "max_payload"]),
        ("result object", ["NotSerializableError", "gives", "object"]),
        ("result nan", ["NotSerializableError", "gives", "rows", "nan"]),
        ("result big", ["PayloadTooLargeError", "gives", "max_payload"]),
        ("annotation none", ["NotSerializableError", "gives_text", "str"]),
        ("child object", ["NotSerializableError", "echo", "object"]),
        ("child big", ["PayloadTooLargeError", "echo", "max_payload"]),
    ],
)
def test_a_value_that_cannot_be_kept_is_an_error_where_it_was_used(
    place: Place, what: str, words: list[str]
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(tries(what), id="a")
            told = await handle.result()
            assert [word for word in [*words, "/ alive"] if word.lower() not in told.lower()] == [], told
            await works(engine)
        async with place.engine() as engine:  # and the same from the record
            assert await engine.run(tries(what), id="a") == told

    run(main)


@workflow
async def returns(what: str) -> str:
    values: dict[str, Any] = {"none": None, "object": object(), "big": BIG, "nan": math.nan}
    await says("first")
    return values[what]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("what", "words"),
    [("none", "str"), ("object", "object"), ("big", "max_payload"), ("nan", "nan")],
)
def test_a_workflows_result_that_cannot_be_kept_fails_the_run(place: Place, what: str, words: str) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(returns(what), id="a")
            with pytest.raises(RunFailed, match=f"(?s)returns.*{words}") as info:
                await handle.result()
            assert isinstance(info.value.__cause__, perdure.NotSerializableError)
            assert len(await recorded(handle)) == 1
            await works(engine)

    run(main)


def test_a_workflows_input_that_cannot_be_kept_starts_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            for value in (object(), math.nan, [{"deep": object()}]):
                with pytest.raises(perdure.NotSerializableError, match="echo"):
                    await engine.start(echo(value), id="a")
            with pytest.raises(PayloadTooLargeError, match=r"echo.*max_payload"):
                await engine.start(echo(BIG), id="a")
            with pytest.raises(perdure.NotSerializableError):
                await engine.start_many([echo(1), echo(object()), echo(2)])
            assert [item async for item in engine.runs()] == []
            await works(engine)

    run(main)


def test_a_large_payload_goes_through_when_it_is_allowed(place: Place) -> None:
    async def main() -> None:
        async with place.engine(max_payload=11_000_000) as engine:
            assert await engine.run(echo(BIG)) == BIG

    run(main)


def test_two_functions_cannot_share_a_name() -> None:
    async def one() -> None: ...
    async def two() -> None: ...

    workflow(name="payloads.shared")(one)
    with pytest.raises(DuplicateNameError, match=r"(?s)payloads\.shared.*one.*two.*@workflow\(name="):
        workflow(name="payloads.shared")(two)
    step(name="payloads.shared")(one)
    with pytest.raises(DuplicateNameError, match=r"(?s)payloads\.shared.*one.*two.*@step\(name="):
        step(name="payloads.shared")(two)
    for bad in ("", "a#1", "a/b", "x" * 256, "line\n"):
        with pytest.raises(ConfigurationError, match="can't name"):
            step(name=bad)(two)


def test_only_functions_that_fit_can_be_decorated() -> None:
    async def yields() -> Any:
        yield 1

    def plain() -> None: ...

    for wrong in (print, yields, type("Thing", (), {})()):
        with pytest.raises(ConfigurationError, match="@step"):
            step(wrong)
    with pytest.raises(ConfigurationError, match="async def"):
        workflow(plain)  # type: ignore[type-var]
    for option in ("timeout", "deadline"):
        with pytest.raises(perdure.PerdureError, match=option):
            step(**{option: 0})  # type: ignore[call-overload]
        with pytest.raises(perdure.PerdureError, match=option):
            says.with_options(**{option: -1})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="key"):
        says.with_options(key="")


def test_an_id_stands_for_one_piece_of_work(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            first = await engine.start(greets("you"), id="a")
            assert await first.result() == "hello you"
            with pytest.raises(RunConflictError, match=r"'a'.*other input.*another id"):
                await engine.start(greets("them"), id="a")
            with pytest.raises(RunConflictError, match=r"'a'.*greets.*echo.*another id"):
                await engine.start(echo("you"), id="a")
            with pytest.raises(RunConflictError, match=r"'a' exists already \(completed\)"):
                await engine.start(greets("you"), id="a", if_exists="fail")
            again = await engine.start(greets("you"), id="a")
            assert await again.result() == "hello you"
            assert len(await recorded(first)) == 1
            await works(engine)

    run(main)


def test_a_conflict_among_many_starts_keeps_the_others_going(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(greets("you"), id="taken")
            with pytest.raises(RunConflictError, match="'taken'"):
                await engine.start_many([greets(name) for name in "abc"], ids=["1", "taken", "3"])
            assert await engine.get("1").result() == "hello a"
            assert await engine.get("3").result() == "hello c"

    run(main)


def test_a_start_whose_caller_gives_up_leaves_no_run_without_a_driver(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            for number in range(40):
                starting = asyncio.ensure_future(engine.start(greets("x"), id=f"a{number}"))
                await asyncio.sleep(number * 0.00005)
                starting.cancel()
                await asyncio.gather(starting, return_exceptions=True)
            for item in [item async for item in engine.runs(limit=None)]:
                await engine.get(item.id).result()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perdure.api.call.Call.__del__", lambda call: None)  # never got to its first line
        run(main)


@step
async def awaits(what: str) -> str:
    return await (says("x") if what == "step" else greets("x"))


@workflow
async def calls_from_a_step(what: str) -> str:
    return await awaits(what)


@pytest.mark.parametrize("what", ["step", "workflow"])
def test_a_step_is_a_leaf(place: Place, what: str) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(calls_from_a_step(what), id="a")
            with pytest.raises(RunFailed, match=r"awaits.*leaf") as info:
                await handle.result()
            assert isinstance(info.value.__cause__, DurableCallInStepError)
            assert len(await of_kind(handle, events.StepFailed)) == 1
            assert [item.id async for item in engine.runs()] == ["a"]
            await works(engine)

    run(main)


def test_wrong_arguments_fail_at_the_call() -> None:
    wrong: Any = says
    with pytest.raises(TypeError, match="word"):
        wrong()
    with pytest.raises(TypeError):
        wrong("a", "b")
    wrong = greets
    with pytest.raises(TypeError, match="nam"):
        wrong(nam="x")


@workflow
async def family(depth: int) -> int:
    return 0 if depth == 0 else 1 + await family(depth - 1)


def test_families_may_be_deeper_than_an_id_is_long(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(family(60), id="a") == 60
            found = [item async for item in engine.runs(limit=None)]
            assert len(found) == 61
            assert {item.status for item in found} == {Status.COMPLETED}

    run(main)


@pytest.mark.parametrize("retry", [None, 3, "often"])
def test_what_is_no_retry_policy_is_refused_when_the_step_is_made(retry: Any) -> None:
    """It was believed, and the first failure of the step couldn't be recorded: its run stood still."""
    with pytest.raises(perdure.errors.ConfigurationError, match="give a Retry"):
        perdure.step(retry=retry)(lambda: None)
    if retry is not None:  # there it means: as it is
        with pytest.raises(perdure.errors.ConfigurationError, match="give a Retry"):
            perdure.step(lambda: None).with_options(retry=retry)
