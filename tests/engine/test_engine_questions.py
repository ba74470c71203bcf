"""Questions: what a run asks of people is answered, times out, is withdrawn, or outlasts whatever happens."""

from __future__ import annotations

from dataclasses import dataclass

from engine_kit import Place, of_kind, run
from question_kit import open_question

import perdure
from perdure import (
    events,
    workflow,
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
            answered = await client.answer(question.id, Approval(True, "good"), by="ann")
            assert await handle.result() == "True: good"
            assert answered == await engine.question(question.id)
            assert (answered.state, answered.answered_by, answered.via) == ("answered", "ann", "python")
            assert answered.answer == {"approved": True, "comment": "good"}
            (told,) = await of_kind(handle, events.QuestionAnswered)
            assert (told.callback, told.by, told.via) == ("ask:1", "ann", "python")
            assert not [item async for item in engine.questions()]
            assert [item.id async for item in engine.questions(open=False)] == [question.id]

    run(main)
