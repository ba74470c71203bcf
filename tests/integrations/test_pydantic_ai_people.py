"""Agents in workflows that wait: for people who approve or answer, for events from outside, for time to pass."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests, RunContext, Tool
from pydantic_ai.capabilities import HandleDeferredToolCalls, RequestInput
from pydantic_ai.exceptions import CallDeferred, RunTimedOut, UserError
from pydantic_ai.external_events import wait_for_external_event
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolResults
from pydantic_ai_kit import calls_tools, echo, played, run, until

import perdure
from helpers.engines import Database, residents
from perdure import Engine
from perdure.integrations.pydantic_ai import AskPeople, PerdureDurability

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def deletes(path: str) -> str:
    """Deletes a file."""
    done[f"deleted {path}"] += 1
    return f"deleted {path}"


def asking(*capabilities: Any, name: str, calls: int = 1) -> Agent[None, str]:
    """An agent that wants to delete files."""
    parts = [
        ToolCallPart("deletes", {"path": f"f{number}"}, tool_call_id=f"d{number}") for number in range(calls)
    ]
    return Agent(
        calls_tools(*parts),
        name=name,
        tools=[Tool(deletes, requires_approval=True)],
        capabilities=[PerdureDurability(), *capabilities],
    )


def returned(result: Any) -> list[str]:
    parts = [part for message in result.all_messages() for part in message.parts]
    return [str(part.content) for part in parts if isinstance(part, ToolReturnPart)]


async def open_questions(engine: Engine, number: int = 1) -> list[Any]:
    """What is asked, once there is as much."""

    async def there() -> bool:
        return len([question async for question in engine.questions()]) == number

    await until(there)
    return [question async for question in engine.questions()]


def test_a_tool_waits_for_a_person_over_a_restart() -> None:
    agent = asking(AskPeople(to="admins", editable=True), name="waits")

    @perdure.workflow(name="waits-for-person")
    async def workflow() -> list[str]:
        return returned(await agent.run("go"))

    async def main() -> None:
        database = Database(None)
        async with database.engine() as engine:
            await engine.start(workflow(), id="w")
            (question,) = await open_questions(engine)
            assert (question.to, question.details) == (
                "admins",
                {"tool": "deletes", "arguments": {"path": "f0"}},
            )
            assert question.op == "approval[d0]"
        async with database.engine() as engine:
            answer = {"approved": True, "arguments": {"path": "other"}}
            await engine.answer(question.id, answer, by="ann")
            assert await engine.get("w").result() == ["deleted other"]
        assert done == {"deleted other": 1}

    run(main)


def test_each_call_is_a_question_of_its_own() -> None:
    agent = asking(AskPeople(), name="several", calls=3)

    @perdure.workflow(name="several-questions")
    async def workflow() -> list[str]:
        return returned(await agent.run("go"))

    async def main() -> None:
        database = Database(None)
        async with database.engine() as engine:
            await engine.start(workflow(), id="w")
            questions = await open_questions(engine, 3)
        async with database.engine() as engine:
            for question in questions:
                path = question.details["arguments"]["path"]
                answer = {"approved": path != "f1", "comment": "not that one" if path == "f1" else ""}
                await engine.answer(question.id, answer)
            result = await engine.get("w").result()
        assert sorted(result) == ["deleted f0", "deleted f2", "not that one"]
        assert done == {"deleted f0": 1, "deleted f2": 1}

    run(main)


def test_nobody_approves_in_time() -> None:
    agent = asking(AskPeople(timeout=0.02), name="late")

    async def body() -> list[str]:
        return returned(await agent.run("go"))

    assert played(body).value == ["Nobody has answered in time."]
    assert not done


def test_a_tool_may_ask_a_question() -> None:
    async def which(options: list[str]) -> str:
        raise CallDeferred(metadata={"options": options}, kind="question")

    agent = Agent(
        calls_tools(ToolCallPart("which", {"options": ["a", "b"]}, tool_call_id="q")),
        name="which",
        tools=[which],
        capabilities=[PerdureDurability(), AskPeople()],
    )

    @perdure.workflow(name="which-one")
    async def workflow() -> list[str]:
        return returned(await agent.run("go"))

    async def main() -> None:
        async with Database(None).engine() as engine:
            await engine.start(workflow(), id="w")
            (question,) = await open_questions(engine)
            assert question.details["details"] == {"options": ["a", "b"]}
            await engine.answer(question.id, "b")
            assert await engine.get("w").result() == ["b"]

    run(main)


def test_outside_of_runs_nobody_is_asked() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("deletes", {"path": "f"}, tool_call_id="d")),
        name="outside",
        tools=[Tool(deletes, requires_approval=True)],
        output_type=[str, DeferredToolRequests],
        capabilities=[PerdureDurability(), AskPeople()],
    )

    async def main() -> None:
        result = await agent.run("go")
        assert isinstance(result.output, DeferredToolRequests)

    run(main)


def test_a_handler_of_the_workflow_may_decide() -> None:
    def decides(ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults:
        return requests.build_results(approve_all=True)

    agent = asking(HandleDeferredToolCalls(handler=decides), AskPeople(), name="decides")

    async def body() -> list[str]:
        return returned(await agent.run("go"))

    assert played(body).value == ["deleted f0"]
    assert done == {"deleted f0": 1}


# -- events from outside ------------------------------------------------------------------------------


def test_input_is_requested_by_a_token_of_a_callback() -> None:
    tokens: list[str] = []

    def ask(ctx: RunContext[Any], requests: DeferredToolRequests, token: str) -> None:
        tokens.append(token)

    agent = asking(RequestInput(ask), name="requests")

    @perdure.workflow(name="requests-input")
    async def workflow() -> list[str]:
        return returned(await agent.run("go"))

    async def main() -> None:
        database = Database(None)
        async with database.engine() as engine:
            await engine.start(workflow(), id="w")
            await until(lambda: bool(tokens))
        async with database.engine() as engine:
            await engine.callbacks.complete(tokens[0], {"approvals": {"d0": True}})
            assert await engine.get("w").result() == ["deleted f0"]
        assert (len(tokens), done) == (1, {"deleted f0": 1})

    run(main)


def test_input_may_come_at_once() -> None:
    def ask(ctx: RunContext[Any], requests: DeferredToolRequests, token: str) -> DeferredToolResults:
        done["asked"] += 1
        return requests.build_results(approve_all=True)

    agent = asking(RequestInput(ask), name="at-once")

    async def body() -> list[str]:
        return returned(await agent.run("go"))

    assert played(body).value == ["deleted f0"]
    assert done == {"asked": 1, "deleted f0": 1}


def test_input_that_doesnt_come_in_time_is_a_no() -> None:
    def ask(ctx: RunContext[Any], requests: DeferredToolRequests, token: str) -> None:
        done["asked"] += 1

    agent = asking(RequestInput(ask, timeout=timedelta(seconds=0.02)), name="in-time")

    async def body() -> list[str]:
        return returned(await agent.run("go"))

    (answer,) = played(body).value
    assert answer.startswith("No decision on this tool call arrived: No answer came within")
    assert done == {"asked": 1}


def test_a_failed_callback_is_a_no() -> None:
    tokens: list[str] = []

    async def ask(ctx: RunContext[Any], requests: DeferredToolRequests, token: str) -> None:
        tokens.append(token)

    agent = asking(RequestInput(ask), name="fails")

    @perdure.workflow(name="fails-input")
    async def workflow() -> list[str]:
        return returned(await agent.run("go"))

    async def main() -> None:
        async with Database(None).engine() as engine:
            handle = await engine.start(workflow(), id="w")
            await until(lambda: bool(tokens))
            await engine.callbacks.fail(tokens[0], "the office is closed")
            (answer,) = await handle.result()
        assert "the office is closed" in answer

    run(main)


def test_an_event_cant_be_waited_for_in_a_step() -> None:
    async def waits() -> str:
        return str(await wait_for_external_event("that", ask=lambda token: None))

    agent = Agent(
        calls_tools(ToolCallPart("waits", {}, tool_call_id="w")),
        name="in-step",
        tools=[waits],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(UserError, match="called from inside a durable unit"):
        played(body)


# -- time ---------------------------------------------------------------------------------------------


def test_the_time_of_a_run_is_that_of_the_workflow() -> None:
    """A replay long after doesn't find the agent's time over."""
    seen: list[datetime | None] = []

    async def looks(ctx: RunContext[Any]) -> str:
        seen.append(ctx.deadline)
        return "looked"

    agent = Agent(
        calls_tools(ToolCallPart("looks", {}, tool_call_id="l")),
        name="deadline",
        tools=[Tool(looks, metadata={"perdure": False})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> str:
        return (await agent.run("go", timeout=3600)).output

    assert played(body).value == "done"
    assert len(seen) == 2
    assert seen[0] is not None
    assert seen[0] == seen[1]
    assert seen[0] > datetime.now(UTC)


def test_a_run_of_an_agent_may_take_too_long() -> None:
    async def slow() -> str:
        await perdure.sleep(3600)
        return "never"

    agent = Agent(
        calls_tools(ToolCallPart("slow", {}, tool_call_id="s")),
        name="slow",
        tools=[Tool(slow, metadata={"perdure": False})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go", timeout=0.2)

    with pytest.raises(RunTimedOut):
        played(body)


def test_a_cancelled_workflow_cancels_its_agent() -> None:
    began: list[int] = []

    async def hangs() -> str:
        began.append(1)
        await __import__("asyncio").sleep(3600)
        return "never"

    agent = Agent(
        calls_tools(ToolCallPart("hangs", {}, tool_call_id="h")),
        name="cancelled",
        tools=[hangs],
        capabilities=[PerdureDurability()],
    )

    @perdure.workflow(name="cancelled-agent")
    async def workflow() -> str:
        return (await agent.run("go")).output

    async def main() -> None:
        async with Database(None).engine() as engine:
            handle = await engine.start(workflow(), id="c")
            await until(lambda: bool(began))
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()

    run(main)


def test_usage_of_the_time_outside() -> None:
    agent = Agent(echo, name="plain-time", capabilities=[PerdureDurability()])

    async def main() -> None:
        assert (await agent.run("go", timeout=60)).output == "Echo: go"

    run(main)


def test_an_agent_that_waits_leaves_memory() -> None:
    """Its code is unwound in the middle of everything, and nothing of it acts while that happens."""
    heard: list[str] = []

    async def handler(ctx: RunContext[Any], events: Any) -> None:
        async for event in events:
            heard.append(event.event_kind)

    agent = Agent(
        TestModel(call_tools=["deletes"]),
        name="leaves",
        tools=[Tool(deletes, requires_approval=True)],
        capabilities=[PerdureDurability(event_stream_handler=handler), AskPeople()],
    )

    @perdure.workflow(name="leaves-memory")
    async def workflow() -> str:
        async with agent.run_stream_events("go", timeout=3600) as stream:
            kinds = [event.event_kind async for event in stream]
        return kinds[-1]

    async def main() -> None:
        async with Database(None).engine(evict_after=0.05) as engine:
            handle = await engine.start(workflow(), id="l")
            (question,) = await open_questions(engine)
            await until(lambda: residents(engine) == 0)
            before = len(heard)
            assert (await handle.info()).status == "waiting"
            await engine.answer(question.id, {"approved": True})
            assert await handle.result() == "agent_run_result"
            assert len(heard) > before
            assert heard.count("function_tool_call") == heard.count("function_tool_result") == 1
        assert done == {"deleted a": 1}

    run(main)
