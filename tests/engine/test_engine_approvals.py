"""Approvals: a step that needs one asks first, is bound to its arguments, and runs once it has it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from engine_kit import Place, of_kind, run, until
from question_kit import open_question, open_questions

import perdure
from perdure import (
    Approval,
    ApprovalRejected,
    InvalidAnswerError,
    NeedsApproval,
    ToolApproval,
    events,
    step,
    workflow,
)
from perdure.api.inline import inline_step
from perdure.errors import ConfigurationError, RunFailed, UsageError
from perdure.runtime.definitions import StepOptions

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


def test_only_some_calls_may_need_one(memory: Place) -> None:
    @step(name="approvals.writes", approval=NeedsApproval(when=lambda path, text="": path.startswith("/etc")))
    async def writes(path: str, text: str = "") -> str:
        return f"wrote {path}"

    @workflow(name="approvals.writes_both")
    async def writes_both() -> list[str]:
        free = await writes.with_options(approval=False)("/etc/a")
        return [await writes("/tmp/a"), free, await writes("/etc/b", "x")]

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(writes_both(), id="a")
            question = await open_question(engine, "a")
            assert question.details == {
                "step": "approvals.writes",
                "arguments": {"path": "/etc/b", "text": "x"},
            }
            assert question.step == "approvals.writes#3"
            await handle.answer(Approval(True))
            assert await handle.result() == ["wrote /tmp/a", "wrote /etc/a", "wrote /etc/b"]

    run(main)


def test_calls_at_once_are_approved_one_by_one(place: Place) -> None:
    """Those with keys are known by them, in whatever order they come."""

    @workflow(name="approvals.at_once")
    async def at_once(keys: list[str]) -> list[str]:
        calls = (transfer.with_options(key=key)(key, 7) for key in keys)
        done = await asyncio.gather(*calls, delete("/"), return_exceptions=True)
        return [str(item) for item in done]

    async def main() -> None:
        async with place.engine(evict_after=0.01) as engine:
            handle = await engine.start(at_once(["k1", "k2"]), id="a")
            found = {item.op: item for item in await open_questions(engine, "a", 3)}
            assert set(found) == {
                "approval:approvals.transfer[k1]",
                "approval:approvals.transfer[k2]",
                "approval:1",
            }
            await engine.answer(found["approval:approvals.transfer[k2]"].id, Approval(False, "no"))
            await engine.answer(found["approval:1"].id, Approval(True))
            await engine.answer(found["approval:approvals.transfer[k1]"].id, Approval(True))
            one, two, three = await handle.result()
            assert (one, three) == ("7 to k1", "deleted /")
            assert two == "step 'approvals.transfer[k2]' wasn't approved: no"

    run(main)


def test_a_call_can_be_made_to_need_one(memory: Place) -> None:
    @step(name="approvals.plain")
    async def plain(*names: str, loud: bool = False) -> str:
        return f"{names} {loud}"

    @workflow(name="approvals.asks_for_plain")
    async def asks_for_plain() -> list[str]:
        call = perdure.approve(plain("a", "b"), "Really?", to="ops", editable=True)
        return await asyncio.gather(call, plain("c"))

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(asks_for_plain(), id="a")
            question = await open_question(engine, "a")
            assert (question.text, question.to) == ("Really?", "ops")
            assert question.default == {"arguments": {"names": ["a", "b"]}}
            assert [field.name for field in question.form.fields] == [
                "approved", "comment", "arguments.names", "arguments.loud"
            ]  # fmt: skip
            await handle.answer({"approved": True, "arguments": {"names": ["x"], "loud": True}})
            assert await handle.result() == ["('x',) True", "('c',) False"]

    run(main)


@workflow(name="approvals.tools")
async def tools() -> list[ToolApproval]:
    rest = {"type": "object", "properties": {"path": {"type": "string"}}}
    first = perdure.ask_approval("remove", {"path": "/a"}, key="call-1", form=rest, details="old")
    second = perdure.ask_approval("remove", {"path": "/b"}, key="call-2")
    return [*await asyncio.gather(first, second)]


def test_tools_of_others_are_approved_by_their_call_s_id(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(tools(), id="a")
            one, two = await open_questions(engine, "a", 2)
            assert (one.op, two.op) == ("approval[call-1]", "approval[call-2]")
            assert one.details == {"tool": "remove", "arguments": {"path": "/a"}, "details": "old"}
            assert one.digest != two.digest
            with pytest.raises(InvalidAnswerError, match=r"arguments\.path: expected a text"):
                await engine.answer(one.id, {"approved": True, "arguments": {"path": 1}})
            with pytest.raises(InvalidAnswerError, match="arguments: there is no such field"):
                await engine.answer(two.id, {"approved": True, "arguments": {"path": "/"}})
            await engine.answer(one.id, {"approved": True, "arguments": {"path": "/c"}}, by="ann")
            await engine.answer(two.id, Approval(False, "why?"))
            first, second = await handle.result()
            assert first == ToolApproval(True, "", {"path": "/c"}, "ann")
            assert second == ToolApproval(False, "why?")
            assert first
            assert not second

    run(main)


def test_an_approved_step_is_a_step_as_any_other(place: Place) -> None:
    """Its attempts need no second approval, wherever they execute; nor does one that mustn't happen twice."""
    tries: list[int] = []

    @step(name="approvals.flaky", approval=True, queue="approvals.there", retry=perdure.Retry(initial=0.001))
    async def flaky(word: str) -> str:
        tries.append(perdure.step_info().attempt)
        if len(tries) < 3:
            raise OSError(word)
        return word.upper()

    @step(name="approvals.once", approval=True, once=True)
    async def once(word: str) -> str:
        return f"{word}!"

    @workflow(name="approvals.chain")
    async def chain() -> str:
        return await once(await flaky("word"))

    async def main() -> None:
        async with place.engine(queues=["default", "approvals.there"]) as engine:
            handle = await engine.start(chain(), id="a")
            await open_question(engine, "a")
            await handle.answer(Approval(True))

            async def next_one() -> bool:
                return [item.op async for item in engine.questions(run="a")] == ["approval:2"]

            await until(next_one)
            assert tries == [1, 2, 3]
            await handle.answer(Approval(True))
            assert await handle.result() == "WORD!"

    run(main)


def test_giving_up_an_approved_call_withdraws_the_question(memory: Place) -> None:
    @workflow(name="approvals.impatient")
    async def impatient() -> str:
        try:
            async with asyncio.timeout(0.01):
                return await delete("/x")
        except TimeoutError:
            pass
        try:
            return await perdure.approve(delete("/y"), timeout=0.01)
        except TimeoutError as error:
            return str(error)

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(impatient(), id="a")
            assert await handle.result() == "nobody answered approval:2 within its timeout of 0.01 s"
            states = [item.state async for item in engine.questions(open=False)]
            assert states == ["withdrawn", "expired"]
            assert not DONE

    run(main)


def test_outside_of_runs_nobody_is_asked() -> None:
    assert asyncio.run(pays.function(5)) == "5 to ann"
    assert DONE == {"ann 5": 1}


def test_misuse_is_told(memory: Place) -> None:
    for given in (3, NeedsApproval):
        with pytest.raises(ConfigurationError, match="approval="):
            step(name="approvals.wrong", approval=given)  # type: ignore[call-overload]
    for arguments in ({"text": " "}, {"to": ""}, {"timeout": 0}):
        with pytest.raises(ConfigurationError, match="NeedsApproval"):
            NeedsApproval(**arguments)
    with pytest.raises(UsageError, match="takes the call of a step"):
        perdure.approve(deletes("/"))
    with pytest.raises(UsageError, match="only in workflow code"):
        asyncio.run(perdure.ask_approval("x"))

    @step(name="approvals.takes_anything", approval=True)
    async def takes_anything(value: object) -> str:
        return "done"

    @workflow(name="approvals.unfit")
    async def unfit() -> str:
        return await takes_anything(object())

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(RunFailed, match="NotSerializableError"):  # and nobody is asked for it
                await engine.run(unfit(), id="a")
            assert not [item async for item in engine.questions(open=False)]

    run(main)


def test_live_bodies_are_approved_but_not_changed(memory: Place) -> None:
    @workflow(name="approvals.inline")
    async def inline(editable: bool) -> str:
        async def body(given: dict[str, str]) -> str:
            return given["path"].upper()

        options = StepOptions(key="c1", before=NeedsApproval("Run it?", editable=editable))
        return await inline_step("tool", body, given={"path": "x"}, result=str, options=options)

    async def main() -> None:
        async with memory.engine() as engine:
            handle = await engine.start(inline(False), id="a")
            question = await open_question(engine, "a")
            assert question.details == {"step": "tool", "arguments": {"given": {"path": "x"}}}
            await handle.answer(Approval(True))
            assert await handle.result() == "X"
            with pytest.raises(RunFailed, match="made of live objects"):
                await engine.run(inline(True))

    run(main)
