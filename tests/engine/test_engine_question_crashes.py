"""Questions and approvals outlast crashes, retries and forks: nobody is asked twice, and no step runs twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, Places, bury, crash, history, of_kind, recorded, run, until
from question_kit import open_question, open_questions

import perdure
from perdure import (
    Approval,
    NeedsApproval,
    QuestionClosedError,
    QuestionError,
    RunFailed,
    events,
    step,
    workflow,
)

LEDGERS: list[Ledger] = []
DONE: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()


@step(name="question_crashes.pays", approval=NeedsApproval(editable=True))
async def pays(cents: int) -> str:
    info = perdure.step_info()
    LEDGERS[-1].begins(info.run_id, info.step_id)
    return f"paid {cents}"


@workflow(name="question_crashes.asks")
async def asks() -> list[Any]:
    quick = perdure.ask("Quick?", timeout=0.01, on_timeout="nobody")
    given_up = asyncio.ensure_future(perdure.ask("Given up?"))
    said = await asyncio.gather(perdure.ask("First?", int), quick)
    given_up.cancel()
    return [*said, await pays(7), await perdure.ask("Last?", str)]


ANSWERS: dict[str, Any] = {
    "First?": 1,
    "Approve question_crashes.pays?": {"approved": True, "arguments": {"cents": 5}},
    "Last?": "end",
}


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_changes_nothing(make_place: Places, commits: bool) -> None:
    """Who asks is asked once, what is approved happens once, and what was withdrawn stays so."""

    async def drives(place: Place, wrap: Any = None) -> tuple[Any, bool]:
        engine = place.engine(wrap)
        await engine.__aenter__()
        dead = asyncio.ensure_future(engine._store.dead.wait()) if wrap else asyncio.Future()  # type: ignore[attr-defined]

        async def answers() -> Any:
            handle = await engine.start(asks(), id="a")
            while not (await handle.status()).final:
                async for question in engine.questions(run="a"):
                    if question.text in ANSWERS:
                        try:
                            await engine.answer(question.id, ANSWERS[question.text], by="ann")
                        except QuestionError:
                            pass  # in the former life
                await asyncio.sleep(0.001)
            return await handle.result()

        driving = asyncio.ensure_future(answers())
        await asyncio.wait([driving, dead], return_when=asyncio.FIRST_COMPLETED)
        died = dead.done()
        dead.cancel()
        if not died:
            result = await driving
            await engine.close()
            return result, False
        driving.cancel()
        await asyncio.wait([driving])
        await crash(engine)
        await bury(place)
        return None, True

    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            place = make_place()
            LEDGERS.append(ledger := Ledger())
            result, died = await drives(
                place, lambda inner, n=number, book=ledger: Mortal(inner, n, commits, book)
            )
            if died:
                result, _ = await drives(place)
            assert result == [1, "nobody", "paid 5", "end"], f"died at append {number}"
            assert ledger.repeated == []
            async with place.engine(worker=False) as client:
                handle = client.get("a")
                assert len(await of_kind(handle, events.QuestionAsked)) == 5
                assert len(await of_kind(handle, events.QuestionAnswered)) == 3
                assert len(await of_kind(handle, events.QuestionWithdrawn)) == 1
                assert await recorded(handle) == ["question_crashes.pays#1"]
                assert not [item async for item in client.questions()]
                states = Counter([item.state async for item in client.questions(open=False)])
                assert states == {"answered": 3, "expired": 1, "withdrawn": 1}
        assert number > 6

    run(main)


# -- retries ----------------------------------------------------------------------------------------------


@workflow(name="question_crashes.fails_once")
async def fails_once(timeout: float | None = None) -> str:
    first = await perdure.ask("First?", str)
    second = await perdure.ask("Second?", str, timeout=None if DONE["mended"] else timeout)
    if not DONE["mended"]:
        raise ValueError(second)
    return f"{first} {second}"


def test_a_retry_asks_again_only_what_was_not_answered(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(fails_once(timeout=0.05), id="a")
            await open_question(engine, "a")
            await handle.answer("one")
            with pytest.raises(RunFailed, match="nobody answered ask:2"):
                await handle.result()
            DONE["mended"] = 1
            await handle.retry()
            again = await open_question(engine, "a")
            assert (again.text, again.generation, again.expires_at) == ("Second?", 2, None)
            await handle.answer("two")
            assert await handle.result() == "one two"

    run(main)


def test_a_retry_reuses_answers(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(fails_once(), id="a")
            await open_question(engine, "a")
            await handle.answer("one")
            await open_question(engine, "a")
            await handle.answer("two")
            with pytest.raises(RunFailed, match="two"):
                await handle.result()
            DONE["mended"] = 1
            await handle.retry()
            assert await handle.result() == "one two"
            assert [event.reused for event in await of_kind(handle, events.QuestionAnswered)] == [True, True]

    run(main)


@workflow(name="question_crashes.fails_beside")
async def fails_beside() -> str:
    asking = asyncio.ensure_future(perdure.ask("Beside?", str))
    await perdure.ask("Fail?")
    if not DONE["mended"]:
        raise ValueError("it failed")
    return await asking


def test_a_retry_opens_anew_what_was_withdrawn_with_its_donor(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(fails_beside(), id="a")
            found = {item.text: item for item in await open_questions(engine, "a", 2)}
            await engine.answer(found["Fail?"].id, True)
            with pytest.raises(RunFailed, match="it failed"):
                await handle.result()
            with pytest.raises(QuestionClosedError):
                await engine.answer(found["Beside?"].id, "x")
            DONE["mended"] = 1
            await handle.retry()
            again = await open_question(engine, "a")
            assert (again.id, again.generation) == (found["Beside?"].id, 2)
            await engine.answer(again.id, "done")
            assert await handle.result() == "done"

    run(main)


@workflow(name="question_crashes.callback")
async def with_callback() -> str:
    mine = perdure.callback(str, timeout=0.05 if not DONE["mended"] else None)
    TOKENS.append(mine.token)
    return await mine


TOKENS: list[str] = []


@pytest.mark.parametrize("end", ["times out", "is failed"])
def test_a_retry_waits_again_for_a_callback_that_came_to_nothing(place: Place, end: str) -> None:
    """It has the same token, by which it couldn't be completed any more."""

    async def main() -> None:
        TOKENS.clear()
        async with place.engine() as engine:
            DONE["mended"] = int(end != "times out")
            handle = await engine.start(with_callback(), id="a")
            await until(lambda: TOKENS)

            async def is_open() -> bool:
                return bool(await of_kind(handle, events.CallbackOpened))

            await until(is_open)
            if end == "is failed":
                await engine.callbacks.fail(TOKENS[0], "no")
            with pytest.raises(RunFailed):
                await handle.result()
            DONE["mended"] = 1
            await handle.retry()
            await until(is_open)
            await engine.callbacks.complete(TOKENS[0], "yes")
            assert await handle.result() == "yes"

    run(main)


# -- forks ------------------------------------------------------------------------------------------------


@step(name="question_crashes.drafts")
async def drafts(topic: str) -> str:
    DONE[topic] += 1
    return f"about {topic}"


@workflow(name="question_crashes.publishes")
async def publishes(topic: str) -> str:
    draft = await drafts(topic)
    approval = await perdure.ask("Publish?", Approval, details=draft)
    return f"{draft}: {bool(approval)}, {await pays(len(draft))}"


def test_a_fork_reuses_answers_to_the_same_question_only(place: Place) -> None:
    """An approval is bound to what was shown: for a fork's own arguments somebody is asked anew."""

    async def main() -> None:
        LEDGERS.append(Ledger())
        async with place.engine() as engine:
            handle = await engine.start(publishes("tea"), id="a")
            await open_question(engine, "a")
            await handle.answer(Approval(True))
            await open_question(engine, "a")
            await handle.answer(Approval(True))
            assert await handle.result() == "about tea: True, paid 9"
            same = await handle.fork(id="same")
            assert await same.result() == "about tea: True, paid 9"
            assert [event.reused for event in await of_kind(same, events.QuestionAnswered)] == [True, True]
            other = await handle.fork(id="other", edits={"drafts": "about milk"})
            asked = await open_question(engine, "other")
            assert (asked.text, asked.details) == ("Publish?", "about milk")
            await other.answer(Approval(False))
            approval = await open_question(engine, "other")
            assert approval.details == {"step": "question_crashes.pays", "arguments": {"cents": 10}}
            await other.answer(Approval(True))
            assert await other.result() == "about milk: False, paid 10"
            ledger = LEDGERS[-1]
            assert ledger.bodies == {"a:question_crashes.pays#1": 1, "other:question_crashes.pays#1": 1}
            edited = await handle.fork(id="edited", edits={"pays": perdure.Args(99)})
            approval = await open_question(engine, "edited")
            assert approval.details == {"step": "question_crashes.pays", "arguments": {"cents": 99}}
            await edited.answer(Approval(True))
            assert await edited.result() == "about tea: True, paid 99"

    run(main)


@step(name="question_crashes.sends", approval=True, stub=lambda text: f"would send {text}")
async def sends(text: str) -> str:
    DONE[f"sends {text}"] += 1
    return f"sent {text}"


@workflow(name="question_crashes.drafts_and_sends")
async def drafts_and_sends(text: str) -> str:
    return await sends(text)


def test_for_what_a_counterfactual_fork_withholds_nobody_is_asked(place: Place) -> None:
    """And nobody has approved it: a fork of that one, which acts, asks."""

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(drafts_and_sends("a"), id="a")
            await open_question(engine, "a")
            await handle.answer(Approval(True))
            assert await handle.result() == "sent a"
            same = await handle.fork(id="same", effects="reuse")
            assert await same.result() == "sent a"
            other = await handle.fork(id="other", input=perdure.Args("b"), effects="reuse")
            assert await other.result() == "would send b"
            (answered,) = await of_kind(other, events.QuestionAnswered)
            assert (answered.presumed, answered.by) == (True, None)
            assert not [item async for item in engine.questions(run="other", open=False)]
            acts = await other.fork(id="acts")
            await open_question(engine, "acts")
            assert DONE == {"sends a": 1}
            await acts.answer(Approval(True))
            assert await acts.result() == "sent b"

    run(main)


def test_a_replay_of_all_this_fits(place: Place) -> None:
    """Out of memory after each event, and in again."""

    async def main() -> None:
        LEDGERS.append(Ledger())
        async with place.engine(evict_after=0.0) as engine:
            handle = await engine.start(asks(), id="a")

            async def answered() -> bool:
                async for question in engine.questions(run="a"):
                    if question.text in ANSWERS:
                        await engine.answer(question.id, ANSWERS[question.text])
                return (await handle.status()).final

            await until(answered)
            assert await handle.result() == [1, "nobody", "paid 5", "end"]
            assert len(await history(handle)) > 10

    run(main)
