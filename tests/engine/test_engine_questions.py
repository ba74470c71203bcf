"""Questions: what a run asks of people is answered once, checked by its form, times out, or is withdrawn."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest
from engine_kit import Place, Slow, of_kind, reaches, redefine, run, says, sets_clock_ahead, until
from question_kit import open_question, open_questions

import perdure
from perdure import (
    Event,
    InvalidAnswerError,
    QuestionAnsweredError,
    QuestionClosedError,
    QuestionError,
    UnknownQuestionError,
    events,
    step,
    workflow,
)
from perdure.errors import (
    ConfigurationError,
    NotSerializableError,
    PayloadTooLargeError,
    ReadOnlyError,
    RunCancelled,
    RunFailed,
    UsageError,
)


@dataclass
class Approval:
    approved: bool
    comment: str = ""


@workflow(name="questions.asks")
async def asks(timeout: float | None = None) -> str:
    try:
        answer = await perdure.ask(
            "Publish?", Approval, details={"title": "News"}, timeout=timeout, to="editors"
        )
    except TimeoutError as error:
        return f"TimeoutError: {error}"
    assert type(answer) is Approval
    return f"{answer.approved}: {answer.comment}"


# -- answers --------------------------------------------------------------------------------------------


def test_an_answer_comes_as_its_type(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine, place.engine(worker=False) as client:
            handle = await engine.start(asks(), id="a")
            question = await open_question(client, "a")
            assert (question.text, question.details, question.to) == (
                "Publish?",
                {"title": "News"},
                "editors",
            )
            assert (question.run, question.op, question.workflow) == ("a", "ask:1", "questions.asks")
            assert (question.state, question.answer, question.expires_at) == ("open", None, None)
            (wait,) = (await handle.info()).waiting_for
            assert (wait.kind, wait.id, wait.detail, wait.question) == (
                "question",
                "ask:1",
                "Publish?",
                question.id,
            )
            answered = await client.answer(question.id, Approval(True, "good"), by="ann")
            assert await handle.result() == "True: good"
            assert answered == await engine.question(question.id)
            assert (answered.state, answered.answered_by, answered.via) == ("answered", "ann", "python")
            assert answered.answer == {"approved": True, "comment": "good"}
            (told,) = await of_kind(handle, events.QuestionAnswered)
            assert (told.callback, told.by, told.via) == ("ask:1", "ann", "python")
            assert answered.answered_at == datetime.fromtimestamp(told.answered_at, UTC)
            assert not [item async for item in engine.questions()]
            assert [item.id async for item in engine.questions(open=False)] == [question.id]

    run(main)


def test_it_can_be_answered_while_no_worker_is_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            await engine.start(asks(timeout=3600), id="a")
            await open_question(engine, "a")
        async with place.engine(worker=False) as client:
            await client.get("a").answer({"approved": True, "comment": "late"}, by="ann", via="mail")
            assert not [item async for item in client.questions()]
        async with place.engine() as engine:
            assert await engine.get("a").result() == "True: late"

    run(main)


def test_it_can_be_answered_while_the_run_is_out_of_memory(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(asks(timeout=3600), id="a")
            await open_question(engine, "a")
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)
            await handle.answer(Approval(True))
            assert await handle.result() == "True: "

    run(main)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(pydantic.BaseModel):
    city: str
    zip: str = pydantic.Field(pattern=r"^\d{5}$", description="five digits")


class Order(msgspec.Struct):
    item: str
    to: Address
    count: Annotated[int, msgspec.Meta(ge=1)] = 1


@workflow(name="questions.echoes")
async def echoes(kind: str) -> str:
    match kind:
        case "bool":
            answer: Any = await perdure.ask("Sure?")
        case "choices":
            answer = await perdure.ask("Which?", choices=["red", 2, None])
        case "chosen":
            answer = await perdure.ask("Which?", int, choices=[1, 2])
        case "enum":
            answer = await perdure.ask("Which?", Colour)
        case "literal":
            answer = await perdure.ask("Which?", Literal["a", "b"])
        case "list":
            answer = await perdure.ask("Which?", list[int])
        case "optional":
            answer = await perdure.ask("Name?", str | None)
        case "order":
            answer = await perdure.ask("What?", Order)
        case _:
            answer = await perdure.ask("What?", Any)
    return repr(answer)


@pytest.mark.parametrize(
    ("kind", "good", "shown", "bad", "problems"),
    [
        ("bool", True, "True", "yes", {"": 'expected true or false, got "yes"'}),
        ("choices", 2, "2", True, {"": 'expected "red" or 2 or null, got true'}),
        ("chosen", 1, "1", 3, {"": "expected 1 or 2, got 3"}),
        ("enum", Colour.RED, "<Colour.RED: 'red'>", "green", {"": 'expected "blue" or "red", got "green"'}),
        ("literal", "b", "'b'", None, {"": 'expected "a" or "b", got null'}),
        ("list", [1, 2], "[1, 2]", [1, "2"], {"[1]": 'expected a whole number, got "2"'}),
        ("optional", None, "None", 1, {"": "expected a text or null, got 1"}),
        (
            "order",
            Order("tea", Address(city="Ulm", zip="89073")),
            "Order(item='tea', to=Address(city='Ulm', zip='89073'), count=1)",
            {"to": {"city": 3, "zip": "x"}, "count": 0, "extra": 1},
            {
                "item": "it is missing",
                "to.city": "expected a text, got 3",
                "to.zip": "expected a text that matches '^\\\\d{5}$', got \"x\"",
                "count": "expected a number of at least 1, got 0",
                "extra": "there is no such field; the fields are item, to, count",
            },
        ),
        ("any", {"a": [1]}, "{'a': [1]}", None, None),
    ],
)
def test_all_kinds_of_answers(
    memory: Place, kind: str, good: Any, shown: str, bad: Any, problems: dict[str, str] | None
) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(echoes(kind), id="a")
            question = await open_question(engine, "a")
            if problems is not None:
                with pytest.raises(InvalidAnswerError, match="Nothing was changed") as told:
                    await engine.answer(question.id, bad)
                assert told.value.problems == problems
                assert (told.value.question, told.value.run_id) == (question.id, "a")
            await engine.answer(question.id, good)
            assert await handle.result() == shown

    run(main)


def test_an_answer_is_given_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(), id="a")
            id = (await open_question(engine, "a")).id
            await engine.answer(id, {"approved": True, "comment": ""}, by="ann")
            again = await engine.answer(id.upper(), {"comment": "", "approved": True}, by="bob")
            assert again.answered_by == "ann"
            assert await handle.result() == "True: "
            assert (
                await engine.answer(id, Approval(True))
            ).answered_by == "ann"  # also when the run has ended
            with pytest.raises(QuestionAnsweredError, match="was answered already by ann, at 20") as told:
                await engine.answer(id, Approval(False))
            assert (told.value.question, told.value.run_id) == (id, "a")
            assert issubclass(QuestionAnsweredError, QuestionError)
            assert len(await of_kind(handle, events.QuestionAnswered)) == 1
            with pytest.raises(UnknownQuestionError, match="no question in this database"):
                await engine.answer("q_nonsense", True)
            with pytest.raises(UnknownQuestionError, match="asks nothing at the moment"):
                await handle.answer(Approval(True))

    run(main)


def test_a_digest_says_what_was_answered(place: Place) -> None:
    @workflow(name="questions.about")
    async def about() -> bool:
        return await perdure.ask("Pay?", bool, about={"to": "ann", "cents": 5})

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(about(), id="a")
            question = await open_question(engine, "a")
            assert question.digest is not None
            with pytest.raises(QuestionClosedError, match="isn't about what the answer was given for"):
                await engine.answer(question.id, True, digest="0" * 32)
            await engine.answer(question.id, True, digest=question.digest)
            assert await handle.result() is True

    run(main)


class Picky(pydantic.BaseModel):
    cents: int

    @pydantic.field_validator("cents")
    @classmethod
    def even(cls, value: int) -> int:
        if value % 2:
            raise ValueError(f"{value} is odd")
        return value


@workflow(name="questions.picks")
async def picks(timeout: float | None = None) -> str:
    try:
        return repr(await perdure.ask("How much?", Picky, timeout=timeout))
    except TimeoutError as error:
        return str(error)


def test_what_the_type_refuses_is_asked_again(place: Place) -> None:
    """Its validators are known where its code is; they have the last word, and nothing gets past them."""

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(picks(timeout=3600), id="a")
            first = await open_question(engine, "a")
            await engine.answer(first.id, {"cents": 7}, by="ann")

            async def is_asked_again() -> bool:
                return [item.op async for item in engine.questions(run="a")] == ["ask:2"]

            await until(is_asked_again)
            second = await open_question(engine, "a")
            assert second.id != first.id
            assert second.problem is not None
            assert "7 is odd" in second.problem
            assert second.expires_at is not None
            assert first.expires_at is not None
            assert abs(second.expires_at - first.expires_at) < timedelta(seconds=1)  # the time goes on
            await engine.answer(second.id, {"cents": 8})
            assert await handle.result() == "Picky(cents=8)"
            refused, taken = await of_kind(handle, events.QuestionAnswered)
            assert (refused.result, refused.given, refused.by) == (None, b'{"cents":7}', "ann")
            assert (taken.result, taken.failure) == (b'{"cents":8}', None)

    run(main)


def test_several_questions_are_told_apart(place: Place) -> None:
    @workflow(name="questions.several")
    async def several() -> list[str]:
        answers = (perdure.ask("Same?", str, key=key, details=key) for key in ("c-1", "c-2"))
        return [*await asyncio.gather(*answers), await perdure.ask("Last?", str)]

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(several(), id="a")
            one, two = await open_questions(engine, "a", 2)
            assert [one.op, two.op] == ["ask[c-1]", "ask[c-2]"]
            with pytest.raises(UsageError, match="asks several questions") as told:
                await handle.answer("x")
            assert one.id in str(told.value)
            await handle.answer("b", question=two.id)
            await handle.answer("a")
            await open_question(engine, "a")
            await handle.answer("c")
            assert await handle.result() == ["a", "b", "c"]

    run(main)


def test_questions_are_listed_by_what_they_are_for(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            handles = [await engine.start(asks(), id=f"r{number}") for number in range(3)]
            await engine.start(echoes("bool"), id="other")
            for handle in handles:
                await open_question(engine, handle.id)
            other = await open_question(engine, "other")
            await handles[0].answer(Approval(True))

            async def listed(**filters: Any) -> list[str]:
                return sorted([item.run async for item in engine.questions(**filters)])

            assert await listed() == ["other", "r1", "r2"]
            assert await listed(to="editors") == ["r1", "r2"]
            assert await listed(to="editors", open=False) == ["r0", "r1", "r2"]
            assert await listed(run="other") == ["other"]
            assert await listed(since=other.asked_at + timedelta(hours=1)) == []
            assert "other" in await listed(since=other.asked_at)
            assert len(await listed(limit=2)) == 2

    run(main)


# -- time -----------------------------------------------------------------------------------------------


def test_its_time_may_be_over(place: Place) -> None:
    @workflow(name="questions.defaults")
    async def defaults() -> str:
        first = await perdure.ask("A?", Approval, timeout=0.05, on_timeout=None)
        second = await perdure.ask("B?", bool, timeout=timedelta(seconds=0.05), on_timeout=False)
        return f"{first} {second}"

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(defaults()) == "None False"
            handle = await engine.start(asks(timeout=0.05), id="a")
            assert await handle.result() == "TimeoutError: nobody answered ask:1 within its timeout of 0.05 s"
            (question,) = [item async for item in engine.questions(run="a", open=False)]
            assert question.state == "expired"
            with pytest.raises(QuestionClosedError, match=r"the time for question .* was over at"):
                await engine.answer(question.id, Approval(True))

    run(main)


def test_its_time_goes_on_while_no_worker_is_up(place: Place) -> None:
    """An answer after it is refused, even if nobody has noted that before."""

    async def main() -> None:
        async with place.engine() as engine:
            await engine.start(asks(timeout=1000), id="a")
            question = await open_question(engine, "a")
        late = place.engine(worker=False)
        sets_clock_ahead(late, 2000)
        async with late as client:
            assert (await client.question(question.id)).state == "expired"
            assert not [item async for item in client.questions()]
            with pytest.raises(QuestionClosedError):
                await client.answer(question.id, Approval(True))
        worker = place.engine()
        sets_clock_ahead(worker, 2000)
        async with worker as engine:
            assert "nobody answered ask:1 within its timeout of 1000 s" in await engine.get("a").result()

    run(main)


# -- withdrawn ------------------------------------------------------------------------------------------


@workflow(name="questions.gives_up")
async def gives_up() -> str:
    try:
        async with asyncio.timeout(0.01):
            await perdure.ask("Quick?")
    except TimeoutError:
        pass
    waiting = asyncio.ensure_future(perdure.ask("Never asked?"))
    await asyncio.sleep(0)
    waiting.cancel()
    return await says("went on") + str(await perdure.ask("Still there?"))


def test_what_the_code_gives_up_is_withdrawn(place: Place) -> None:
    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(gives_up(), id="a")

            async def asks_on() -> bool:
                return [item.text async for item in engine.questions(run="a")] == ["Still there?"]

            await until(asks_on)
            quick, _ = [item async for item in engine.questions(run="a", open=False)]
            assert (quick.text, quick.state) == ("Quick?", "withdrawn")
            with pytest.raises(QuestionClosedError, match="was withdrawn"):
                await engine.answer(quick.id, True)
            assert [event.op for event in await of_kind(handle, events.QuestionWithdrawn)] == ["ask:1"]
            worker = engine._worker
            assert worker is not None
            await until(lambda: not worker.drivers)
            await handle.answer(True)  # and the replay fits
            assert await handle.result() == "went onTrue"

    run(main)


GATE: list[asyncio.Event] = []


@step(name="questions.gated")
async def gated() -> str:
    await GATE[-1].wait()
    return "open"


@workflow(name="questions.changes_its_mind")
async def changes_its_mind() -> bool:
    first = asyncio.create_task(gated())
    await says("a")  # acknowledged only when the gate's outcome waits for the next append
    asking = asyncio.ensure_future(perdure.ask("Never mind?"))
    await first
    asking.cancel()
    return await perdure.ask("Still there?")


def test_what_is_given_up_before_the_question_is_durable_is_withdrawn(memory: Place) -> None:
    async def main() -> None:
        GATE.append(asyncio.Event())
        async with memory.engine(lambda inner: Slow(inner, 1), evict_after=0.2) as engine:
            store: Any = engine._store
            handle = await engine.start(changes_its_mind(), id="a")
            await store.reached.wait()
            GATE[-1].set()
            worker = engine._worker
            assert worker is not None
            (driver,) = worker.drivers.values()
            await until(lambda: driver._buffer)
            store.go.set()

            async def asks_on() -> bool:
                return [item.text async for item in engine.questions(run="a")] == ["Still there?"]

            await until(asks_on)
            told = [
                type(event) for event in await of_kind(handle, events.QuestionAsked, events.QuestionWithdrawn)
            ]
            assert sorted(kind.__name__ for kind in told) == [
                "QuestionAsked",
                "QuestionAsked",
                "QuestionWithdrawn",
            ]
            never, _ = [item async for item in engine.questions(run="a", open=False)]
            assert (never.text, never.state) == ("Never mind?", "withdrawn")
            await until(lambda: not worker.drivers)
            await handle.answer(True)  # and the replay fits
            assert await handle.result() is True

    run(main)


@workflow(name="questions.beside_a_step")
async def asks_beside_a_step() -> tuple[str, bool]:
    # the step's outcome is on its way to the log already when the question is written down
    said, answer = await asyncio.gather(says("a"), perdure.ask("Now?"))
    return said, answer


def test_a_question_is_asked_once_whatever_is_on_its_way_meanwhile(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_beside_a_step(), id="a")
            await open_questions(engine, "a")
            await handle.answer(True)
            assert await handle.result() == ("a", True)
            told = await of_kind(handle, events.QuestionAsked, events.StepCompleted)
            assert sorted(type(event).__name__ for event in told) == ["QuestionAsked", "StepCompleted"]

    run(main)


def test_cancelling_a_run_withdraws_its_questions(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(), id="a")
            question = await open_question(engine, "a")
            await handle.cancel()
            with pytest.raises(RunCancelled):
                await handle.result()
            with pytest.raises(QuestionClosedError, match="was withdrawn"):
                await engine.answer(question.id, Approval(True))
            handle = await engine.start(asks(), id="b")
            question = await open_question(engine, "b")
            await handle.terminate()
            assert not [item async for item in engine.questions()]
            with pytest.raises(QuestionClosedError, match=r"the run has ended \(terminated\)"):
                await engine.answer(question.id, Approval(True))

    run(main)


@workflow(name="questions.leaves_open")
async def leaves_open(generation: int) -> str:
    left = asyncio.ensure_future(perdure.ask("Left?", str))
    if generation == 1:
        await perdure.ask("Go on?")
        perdure.continue_as(leaves_open(2))
    return await left


def test_a_question_is_of_one_generation(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(leaves_open(1), id="a")
            found = await open_questions(engine, "a", 2)
            left, on = sorted(found, key=lambda item: item.text, reverse=True)
            await engine.answer(on.id, True)

            async def asks_again() -> bool:
                return [item.generation async for item in engine.questions(run="a")] == [2]

            await until(asks_again)
            with pytest.raises(QuestionClosedError, match="was withdrawn"):
                await engine.answer(left.id, "old")
            assert (await open_question(engine, "a")).id != left.id
            await handle.answer("new")
            assert await handle.result() == "new"

    run(main)


# -- together with other features -------------------------------------------------------------------------


def test_a_paused_run_keeps_its_answer(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks(timeout=3600), id="a")
            await open_question(engine, "a")
            await handle.pause()
            await reaches(handle, "paused")
            await handle.answer(Approval(True))
            assert await handle.status() == "paused"
            await handle.resume()
            assert await handle.result() == "True: "

    run(main)


def test_update_handlers_may_ask(memory: Place) -> None:
    @workflow(name="questions.updated")
    async def updated() -> str:
        said: list[str] = []

        async def rename(name: str) -> bool:
            if good := await perdure.ask(f"Call it {name}?"):
                said.append(name)
            return good

        perdure.on_update(rename)
        await perdure.until(lambda: said)
        return said[0]

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(updated(), id="a")
            renaming = asyncio.ensure_future(handle.update("rename", "x"))
            assert (await open_question(engine, "a")).op == "u1/ask:1"
            await handle.answer(True)
            assert await renaming is True
            assert await handle.result() == "x"

    run(main)


TOLD: list[dict[str, Any]] = []


@step(name="questions.tells")
async def tells(question: dict[str, Any]) -> None:
    TOLD.append(question)


@workflow(name="questions.notifies", on=Event("perdure.question", where={"to": "editors"}))
async def notifies(question: dict[str, Any]) -> None:
    await tells(question)


def test_a_question_is_published_for_those_who_tell_people(place: Place) -> None:
    async def main() -> None:
        TOLD.clear()
        async with place.engine() as engine:
            await until(engine.subscriptions)
            await engine.start(echoes("bool"), id="other")
            await engine.start(asks(timeout=3600), id="a")
            question = await open_question(engine, "a")
            await until(lambda: TOLD)
            (told,) = TOLD
            assert (told["id"], told["run"], told["text"]) == (question.id, "a", "Publish?")
            assert told["details"] == {"title": "News"}
            assert question.expires_at is not None
            assert told["expires_at"] == pytest.approx(question.expires_at.timestamp())
            assert len([item async for item in engine.publications("perdure.question")]) == 2
            await engine.get("a").answer(Approval(True))
            assert await engine.get("a").result() == "True: "
        await asyncio.sleep(0)
        assert len(TOLD) == 1

    run(main)


def test_queries_cant_ask(memory: Place) -> None:
    @workflow(name="questions.queried")
    async def queried() -> bool:
        async def peek() -> bool:
            return await perdure.ask("Sure?")

        def look() -> object:
            return peek().send(None)

        perdure.on_query(look)
        return await perdure.ask("Really?")

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(queried(), id="a")
            await open_question(engine, "a")
            with pytest.raises(ReadOnlyError):
                await handle.query("look")
            await handle.answer(True)
            assert await handle.result() is True

    run(main)


def test_what_was_asked_stays_what_was_asked(memory: Place) -> None:
    """An answer counts for the text and the details that were shown; how it is put may change."""

    def version(**changes: Any) -> Any:
        asked = {"text": "Delete it?", "details": {"path": "/tmp"}, "to": "ops", **changes}

        async def deletes() -> bool:
            return await perdure.ask(
                asked["text"], bool, details=asked["details"], to=asked["to"], about=asked.get("about", 1)
            )

        return redefine("questions.deletes", deletes)

    async def main() -> None:
        async with memory.engine() as engine:
            await engine.start(version()(), id="a")
            await open_question(engine, "a")
        for changes in ({"text": "Keep it?"}, {"details": {"path": "/"}}, {"about": 2}):
            version(**changes)
            async with memory.engine() as engine:
                await handle_again(engine, "blocked")
                reason = (await engine.get("a").info()).reason
                assert reason is not None
                assert "'ask:1' asks 'Delete it?'" in reason
        version(to="others")
        async with memory.engine() as engine:
            await handle_again(engine, "waiting", "running")
            await engine.get("a").answer(True)
            assert await engine.get("a").result() is True

    async def handle_again(engine: Any, *statuses: str) -> None:
        await engine.get("a").send("wake", 1)
        await reaches(engine.get("a"), *statuses)

    run(main)


def test_misuse_is_told(memory: Place) -> None:
    @workflow(name="questions.wrong")
    async def wrong() -> int:
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"text": " "}, UsageError, "takes the question as a text"),
            ({"text": "x", "timeout": 0}, UsageError, "> 0"),
            ({"text": "x", "to": ""}, UsageError, "to="),
            ({"text": "x", "choices": []}, UsageError, "choices="),
            ({"text": "x", "choices": "ab"}, UsageError, "choices="),
            ({"text": "x", "key": ""}, ConfigurationError, "key="),
            ({"text": "x", "type": type(pytest)}, NotSerializableError, "can't be carried"),
            ({"text": "x", "details": object()}, NotSerializableError, "details of a question"),
            ({"text": "x", "details": float("nan")}, NotSerializableError, "details of a question"),
            ({"text": "x", "about": object()}, NotSerializableError, "about="),
            ({"text": "x", "details": "y" * 3000}, PayloadTooLargeError, "question 'x'"),
        ]
        for arguments, error, told in cases:
            with pytest.raises(error, match=told):
                await perdure.ask(**arguments)
        return len(cases)

    async def main() -> None:
        async with memory.engine(max_payload=2000) as engine:
            assert await engine.run(wrong()) == 11
            assert not [item async for item in engine.questions(open=False)]
            handle = await engine.start(asks(), id="a")
            await open_question(engine, "a")
            with pytest.raises(PayloadTooLargeError, match="answer"):
                await handle.answer({"approved": True, "comment": "x" * 3000})
            with pytest.raises(NotSerializableError, match="answer"):
                await handle.answer({"approved": object()})

    run(main)
    with pytest.raises(UsageError, match="only in workflow code"):
        asyncio.run(asks.function())


def test_a_key_is_asked_once(memory: Place) -> None:
    @workflow(name="questions.twice")
    async def twice() -> None:
        await asyncio.gather(perdure.ask("A?", key="k"), perdure.ask("B?", key="k"))

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(RunFailed, match="a second time"):
                await engine.run(twice())

    run(main)
