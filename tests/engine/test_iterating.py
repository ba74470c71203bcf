"""Forks with another input, with edits of many steps, and what a dry run tells beforehand."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Place, of_kind, run

import perdure
from perdure import Args, Change, Retry, events, step, workflow
from perdure.api.inline import inline_step
from perdure.errors import UsageError
from perdure.runtime.definitions import StepOptions

CALLS: Counter[str] = Counter()
FAILS: set[str] = set()


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()
    FAILS.clear()


def paid(model: str, what: str) -> None:
    CALLS[what] += 1
    perdure.record_usage(model=model, input_tokens=100, output_tokens=10, cost="0.01")


@step(name="iter.extract", effect="read")
async def extract(text: str, *, model: str = "small") -> str:
    paid(model, f"extract {text} {model}")
    return text.upper()


@step(name="iter.write", effect="read")
async def write(prompt: str, facts: list[str], model: str = "big") -> str:
    paid(model, f"{prompt} {model}")
    return f"{prompt}: {' '.join(facts)}"


@workflow(name="iter.research")
async def research(topic: str, documents: list[str], prompt: str = "Report") -> str:
    facts = await asyncio.gather(*(extract(text) for text in documents))
    return await write(f"{prompt} on {topic}", facts)


DOCUMENTS = [f"doc{number}" for number in range(10)]


def test_another_writer_prompt_pays_only_for_the_writer(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research("bees", DOCUMENTS), id="r")
            assert (await handle.result()).startswith("Report on bees: DOC0")
            assert sum(CALLS.values()) == 11
            wish: Any = {"edits": {"write": Change({"prompt": "A poem"})}}
            plan = await handle.fork(**wish, dry_run=True)
            assert plan.exact
            assert len(plan.reused) == 10
            assert plan.runs == ("iter.write#1",)
            assert plan.later == ()
            assert (plan.saved.calls, plan.saved.cost) == (10, Decimal("0.1"))
            assert (plan.cost.calls, plan.cost.total_tokens, plan.cost.cost) == (1, 110, Decimal("0.01"))
            assert sum(CALLS.values()) == 11
            other = await handle.fork(**wish)
            assert (await other.result()).startswith("A poem: DOC0")
            assert sum(CALLS.values()) == 12
            usage = await other.usage()
            assert (usage.calls, usage.saved_calls, usage.saved_cost) == (1, 10, Decimal("0.1"))

    run(main)


def test_the_run_gets_another_input(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research("bees", DOCUMENTS), id="r")
            await handle.result()
            ways: list[Any] = [
                research("wasps", DOCUMENTS),
                Args("wasps", DOCUMENTS),
                Change({"topic": "wasps"}),
                Change(text={"bees": "wasps"}),
            ]
            for number, given in enumerate(ways):
                other = await handle.fork(input=given, id=f"f{number}")
                assert (await other.result()).startswith("Report on wasps: DOC0")
            assert sum(CALLS.values()) == 11 + len(ways)
            (started,) = await of_kind(other, events.RunStarted)
            assert b"wasps" in started.input
            more = await handle.fork(input=Change({"documents": [*DOCUMENTS, "new"]}))
            assert (await more.result()).endswith("NEW")
            assert CALLS["extract new small"] == 1
            assert sum(CALLS.values()) == 11 + len(ways) + 2
            same = await handle.fork(input=ways[1], id="f1")
            assert same.id == "f1"
            with pytest.raises(perdure.RunConflictError):
                await handle.fork(input=Args("ants", DOCUMENTS), id="f1")

    run(main)


def test_what_cant_be_the_input_is_refused(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(research("bees", ["x"]), id="r")
            await handle.result()
            for given in (extract("x"), "wasps", Change({"colour": "red"}), Change({"documents.7": "x"})):
                with pytest.raises(UsageError):
                    await handle.fork(input=given)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await handle.fork(input=Args())

    run(main)


def test_a_change_holds_for_all_steps_of_a_name_and_for_those_to_come(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.05) as engine:
            handle = await engine.start(research("bees", ["a", "b"]), id="r")
            await handle.result()
            other = await handle.fork(
                edits={"extract": Change({"model": "large"})}, input=Change({"documents": ["a", "b", "c"]})
            )
            await other.result()
            assert [CALLS[f"extract {text} large"] for text in "abc"] == [1, 1, 1]
            again = await other.fork()  # a fork of it is one of its code, which says small
            await again.result()
            assert [CALLS[f"extract {text} small"] for text in "abc"] == [2, 2, 1]

    run(main)


def test_patterns_give_results_and_arguments(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research("bees", ["a", "b"]), id="r")
            await handle.result()
            given: dict[str, Any] = {"extract#*": "X"}
            with pytest.raises(UsageError, match=r"several steps .* 'extract#\*' means all"):
                await handle.fork(edits={"extract": "X"})
            plan = await handle.fork(edits=given, dry_run=True)
            assert len(plan.edited) == 2
            other = await handle.fork(edits=given, input=Change({"documents": ["a", "b", "c"]}))
            assert await other.result() == "Report on bees: X X X"
            third = await handle.fork(edits={"*extract*": Args("same")})
            assert await third.result() == "Report on bees: SAME SAME"
            with pytest.raises(UsageError, match=r"no step 'extrakt\*'"):
                await handle.fork(edits={"extrakt*": "X"})
            with pytest.raises(perdure.NotSerializableError):
                await handle.fork(edits={"extract*": 7})
            with pytest.raises(UsageError, match="no argument 'colour'"):
                await handle.fork(edits={"extract": Change({"colour": "red"})})

    run(main)


@workflow(name="iter.inner")
async def inner(text: str) -> str:
    return await write("inner", [await extract(text)])


@workflow(name="iter.outer")
async def outer(texts: list[str]) -> list[str]:
    return [*(await asyncio.gather(*(inner(text) for text in texts))), await extract("end")]


def test_a_child_whose_input_changed_goes_on_from_the_original_child(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(outer(["a", "b"]), id="r")
            await handle.result()
            assert sum(CALLS.values()) == 5
            other = await handle.fork(input=Change({"texts": ["a", "c"]}))
            assert (await other.result())[1:] == ["inner: C", "END"]
            assert sum(CALLS.values()) == 7  # what the second child extracts and writes

    run(main)


def test_a_change_reaches_the_steps_of_children(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(outer(["a", "b"]), id="r")
            await handle.result()
            wish: Any = {"edits": {"write": Change({"prompt": "other"})}}
            plan = await handle.fork(**wish, dry_run=True)
            assert plan.runs == ("1/iter.inner#1", "2/iter.inner#1") or len(plan.runs) == 2
            assert plan.cost.calls == 4  # of both children, at most
            other = await handle.fork(**wish)
            assert await other.result() == ["other: A", "other: B", "END"]
            assert sum(CALLS.values()) == 7
            assert (await other.usage()).saved_calls == 3

    run(main)


@workflow(name="iter.counts")
async def counts(left: int) -> str:
    told = await extract(f"n{left}")
    if left > 1:
        perdure.continue_as(counts(left - 1))
    return told


def test_a_change_goes_on_in_the_next_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(counts(1), id="r")
            await handle.result()
            wish: Any = {"extract": Change({"model": "large"})}
            other = await handle.fork(edits=wish, input=Args(3))
            assert await other.result() == "N1"
            assert [CALLS[f"extract n{left} large"] for left in (3, 2, 1)] == [1, 1, 1]
            stubbed = await handle.fork(edits={"extract*": "given"}, input=Args(2))
            assert await stubbed.result() == "given"

    run(main)


@step(name="iter.fails", retry=Retry(max_attempts=1))
async def fails(what: str) -> str:
    CALLS[what] += 1
    if "fails" in FAILS:
        raise ValueError(what)
    return what


@workflow(name="iter.edited_and_failing")
async def edited_and_failing() -> list[str]:
    return [await extract("a"), await fails("b"), await extract("c")]


def test_a_retry_of_a_fork_keeps_its_edits(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(edited_and_failing(), id="r")
            await handle.result()
            FAILS.add("fails")
            other = await handle.fork(
                edits={"extract#1": Args("A"), "fails": Args("B"), "extract": Change({"model": "large"})},
                id="f",
            )
            with suppress(perdure.RunFailed):
                await other.result()
            FAILS.clear()
            await other.retry()
            assert await other.result() == ["A", "B", "C"]
            assert CALLS["extract A large"] == 1

    run(main)


@workflow(name="iter.agent")
async def agent() -> list[Any]:
    async def body(given: Any) -> str:
        CALLS[given["model"]] += 1
        return str(given["messages"][0]["content"])

    request = {"model": "big", "messages": [{"role": "user", "content": "say yes"}]}
    options = StepOptions(key="turn-1", effect="read")
    told = await inline_step("ask", body, given=request, result=str, options=options, editable=True)
    live = await inline_step("live", body, given={**request, "model": "live"}, result=str)
    return [told, live]


def test_parts_of_a_models_request_are_changed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(agent(), id="r")
            assert await handle.result() == ["say yes", "say yes"]
            other = await handle.fork(
                edits={"ask": Change({"model": "cheap", "messages.0.content": "say no"})}
            )
            assert await other.result() == ["say no", "say yes"]
            assert CALLS == {"big": 1, "live": 1, "cheap": 1}
            reworded = await handle.fork(edits={"a*": Change(text={"yes": "maybe"})})
            assert await reworded.result() == ["say maybe", "say yes"]
            odd = await handle.fork(edits={"ask": Change({"messages.5.content": "?"})})
            with pytest.raises(perdure.RunFailed, match="'5' is no place among 1 items"):
                await odd.result()
            refused = await handle.fork(edits={"live": Change({"model": "cheap"})})
            with pytest.raises(perdure.RunFailed, match="can't be made again from data"):
                await refused.result()
            unaffected = await handle.fork(edits={"live": Change(text={"nowhere": "at all"})})
            assert await unaffected.result() == ["say yes", "say yes"]

    run(main)


@step(name="iter.decides", retry=Retry(max_attempts=1, on_exhausted="block"))
async def decides() -> str:
    raise ValueError("ask somebody")


@workflow(name="iter.decided")
async def decided() -> str:
    return await decides()


def test_what_a_person_decided_is_taken_over(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(decided(), id="r")
            while await handle.status() != "blocked":
                await asyncio.sleep(0.01)
            await handle.resolve("decides", result="so be it", by="ann")
            assert await handle.result() == "so be it"
            assert await (await handle.fork()).result() == "so be it"

    run(main)


def test_without_the_code_a_plan_tells_what_the_history_does(memory: Place) -> None:
    async def main() -> None:
        from perdure.runtime import definitions

        async with memory.engine() as engine:
            handle = await engine.start(research("bees", ["a", "b"]), id="r")
            await handle.result()
            known = definitions._workflows.pop("iter.research")
            try:
                plan = await handle.fork(edits={"write": Change({"prompt": "x"})}, dry_run=True)
                with pytest.raises(UsageError, match="import its module"):
                    await handle.fork(input=Args("wasps"), dry_run=True)
            finally:
                definitions._workflows["iter.research"] = known
            assert not plan.exact
            assert len(plan.reused) == 2
            assert plan.runs == ("iter.write#1",)

    run(main)


def test_a_plan_prices_what_an_edit_makes_cheaper(memory: Place) -> None:
    pytest.importorskip("genai_prices")

    @step(name="iter.priced")
    async def priced(model: str) -> str:
        perdure.record_usage(model=model, input_tokens=1_000_000, output_tokens=0)
        return model

    @workflow(name="iter.prices")
    async def prices() -> str:
        return await priced("gpt-4o")

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(prices(), id="r")
            await handle.result()
            same = await handle.fork(at=1, dry_run=True)
            less = await handle.fork(edits={"priced": Change({"model": "gpt-4o-mini"})}, dry_run=True)
            assert 0 < less.cost.cost < same.cost.cost

    run(main)


def test_a_change_that_changes_nothing_is_a_mistake() -> None:
    for given in ({}, {"": 1}):
        with pytest.raises(UsageError):
            Change(given)


@pytest.mark.parametrize(
    ("documents", "calls"),
    [(["new", *DOCUMENTS], 2), (DOCUMENTS[1:], 1), (DOCUMENTS[::-1], 1), ([*DOCUMENTS, "doc0"], 2)],
    ids=["put-in-before", "left-out", "reversed", "once-more"],
)
def test_steps_are_taken_over_under_other_numbers(documents: list[str], calls: int, place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research("bees", DOCUMENTS), id="r")
            await handle.result()
            wish: Any = {"input": Change({"documents": documents})}
            plan = await handle.fork(**wish, dry_run=True)
            assert len(plan.reused) == len(set(documents) - {"new"})
            assert plan.saved.calls == len(plan.reused)
            other = await handle.fork(**wish)
            assert (await other.result()).split(": ")[1] == " ".join(documents).upper()
            assert sum(CALLS.values()) == 11 + calls
            told = await engine.diff("r", other.id)
            spared = {step.b.id: step.b.usage.saved_calls for step in told.steps if step.b is not None}
            assert sum(spared.values()) == len(plan.reused)
            assert max(spared.values()) == 1
            again = await other.fork(at="write")
            await again.result()
            assert (await again.usage()).saved_calls == len(documents)

    run(main)


def test_children_are_taken_over_under_other_numbers(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(outer(["a", "b"]), id="r")
            await handle.result()
            assert sum(CALLS.values()) == 5
            other = await handle.fork(input=Change({"texts": ["new", "a", "b"]}))
            assert await other.result() == ["inner: NEW", "inner: A", "inner: B", "END"]
            assert sum(CALLS.values()) == 7
            changed = await handle.fork(
                input=Change({"texts": ["b", "a"]}), edits={"write": Change({"prompt": "other"})}
            )
            assert await changed.result() == ["other: B", "other: A", "END"]
            assert sum(CALLS.values()) == 9  # both write anew, and extract nothing

    run(main)


@workflow(name="iter.keyed")
async def keyed(orders: list[str]) -> list[str]:
    return [await extract.with_options(key=order)("same") for order in orders]


def test_a_key_is_what_a_step_is(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(keyed(["one", "two"]), id="r")
            await handle.result()
            other = await handle.fork(input=Args(["two", "three"]))
            await other.result()
            assert sum(CALLS.values()) == 3

    run(main)
