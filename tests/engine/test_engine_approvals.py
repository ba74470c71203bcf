"""Approvals: a step that needs one asks first, is bound to its arguments, and runs once it has it."""

from __future__ import annotations

from collections import Counter

import pytest
from engine_kit import Place, of_kind, run
from question_kit import open_question

from perdure import (
    Approval,
    ApprovalRejected,
    InvalidAnswerError,
    NeedsApproval,
    events,
    step,
    workflow,
)
from perdure.errors import RunFailed

#: Whose bodies ran, by their arguments.
DONE: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def fresh() -> None:
    DONE.clear()


@step(name="approvals.transfer", approval=NeedsApproval("Send this money?", to="treasurers", editable=True))
async def transfer(account: str, cents: int, *, note: str = "") -> str:
    DONE[f"{account} {cents}"] += 1
    return f"{cents} to {account} {note}".strip()


@step(name="approvals.delete", approval=True)
def delete(path: str) -> str:
    DONE[path] += 1
    return f"deleted {path}"


@workflow(name="approvals.pays")
async def pays(cents: int) -> str:
    try:
        return await transfer("ann", cents)
    except ApprovalRejected as error:
        return f"{error.by} says {error.comment!r} to {error.step}"


@workflow(name="approvals.deletes")
async def deletes(path: str) -> str:
    return await delete(path)


def test_the_body_runs_when_it_is_approved(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(deletes("/tmp/x"), id="a")
            question = await open_question(engine, "a")
            assert question.text == "Approve approvals.delete?"
            assert question.details == {"step": "approvals.delete", "arguments": {"path": "/tmp/x"}}
            assert (question.op, question.step) == ("approval:1", "approvals.delete#1")
            assert not DONE
            await handle.answer(Approval(True), by="bob")
            assert await handle.result() == "deleted /tmp/x"
            assert DONE == {"/tmp/x": 1}
            (answered,) = await of_kind(handle, events.QuestionAnswered)
            assert answered.by == "bob"

    run(main)


def test_a_refusal_is_an_error_with_the_persons_words(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(pays(900), id="a")
            await open_question(engine, "a")
            await handle.answer({"approved": False, "comment": "too much"}, by="bob")
            assert await handle.result() == "bob says 'too much' to approvals.transfer#1"
            handle = await engine.start(deletes("/"), id="b")
            await open_question(engine, "b")
            await handle.answer({"approved": False})
            with pytest.raises(RunFailed, match=r"approvals.delete#1' wasn't approved") as told:
                await handle.result()
            assert isinstance(told.value.__cause__, ApprovalRejected)
            assert not DONE

    run(main)


def test_arguments_may_be_changed_where_that_is_allowed(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(pays(900), id="a")
            question = await open_question(engine, "a")
            assert question.default == {"arguments": {"account": "ann", "cents": 900}}
            for arguments in ({"cents": "5"}, {"iban": "x"}, {"note": None}):
                with pytest.raises(InvalidAnswerError, match=r"arguments\."):
                    await handle.answer({"approved": True, "arguments": arguments})
            await handle.answer({"approved": True, "arguments": {"cents": 5, "note": "less"}})
            assert await handle.result() == "5 to ann less"
            (done,) = await of_kind(handle, events.StepCompleted)
            assert done.input == b'[["ann",5],{"note":"less"}]'
            handle = await engine.start(deletes("/"), id="b")
            await open_question(engine, "b")
            with pytest.raises(InvalidAnswerError, match="there is no such field"):
                await handle.answer({"approved": True, "arguments": {"path": "/x"}})

    run(main)
