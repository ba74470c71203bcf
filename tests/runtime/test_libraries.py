"""Agent libraries in workflow code, on a real engine: anyio under cancellation, a pydantic-ai agent with tools."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import perdure
from helpers.engines import Database, run, until
from perdure import RunCancelled, step, workflow

calls: list[str] = []


@step
async def looks_up(city: str) -> str:
    calls.append(city)
    return f"{city}: sunny"


@step
async def cleans(what: str) -> str:
    calls.append("cleans " + what)
    return what


@workflow
async def anyio_agent() -> list[str]:
    anyio = pytest.importorskip("anyio")
    out: list[str] = []
    send, receive = anyio.create_memory_object_stream[str](0)

    async def worker(number: int, own: Any) -> None:
        try:
            async with own as items:
                async for item in items:
                    out.append(await looks_up(item))
                    with anyio.move_on_after(1000):
                        await anyio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=True):
                await cleans(str(number))

    async with send, receive, anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(worker, number, receive.clone())
        for city in ("Oslo", "Rome", "Bern"):
            await send.send(city)
        await anyio.sleep(1000)
    return out


def test_a_cancelled_anyio_program_cleans_up_and_ends_promptly(database: Database) -> None:
    """Level-triggered cancellation calls itself again until everything has ended: it must not spin here."""
    pytest.importorskip("anyio")
    calls.clear()

    async def main() -> None:
        async with database.engine(turn_limit=1.0) as engine:
            handle = await engine.start(anyio_agent())
            await until(lambda: len(calls) == 3)
            await handle.cancel("enough")
            with pytest.raises(RunCancelled, match="enough"):
                await handle.result(timeout=60)
            assert sorted(calls) == ["Bern", "Oslo", "Rome", "cleans 0", "cleans 1", "cleans 2"]

    run(main)


@workflow
async def threads_through_anyio() -> str:
    anyio: Any = pytest.importorskip("anyio")
    try:
        await anyio.to_thread.run_sync(calls.append, "from a thread")
    except perdure.errors.ForbiddenInWorkflowError:
        return "refused"
    return "ran"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no audit event for threads")
def test_threads_of_anyio_are_refused(memory: Database) -> None:
    calls.clear()

    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(threads_through_anyio()) == "refused"

    run(main)
    assert calls == []


@step
async def model_answers(asked: str, found: list[str]) -> str:
    """Stands for a request to a model."""
    calls.append("model")
    return f"{asked} {' and '.join(found)}"


@workflow
async def weather_agent(question: str) -> str:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    async def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        returned = [part.content for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if not returned:
            cities = ("Oslo", "Rome", "Bern", "Lima")
            return ModelResponse(
                parts=[ToolCallPart("weather", {"city": city}, tool_call_id=city) for city in cities]
            )
        return ModelResponse(parts=[TextPart(await model_answers(question, returned))])

    agent = Agent(FunctionModel(model))

    @agent.tool_plain
    async def weather(city: str) -> str:
        await asyncio.sleep(0.05 * len(city))
        return await looks_up.with_options(key=city)(city)

    assert weather is not None
    return (await agent.run(question)).output


def test_a_pydantic_ai_agent_with_parallel_tools_survives_its_engine(database: Database) -> None:
    pytest.importorskip("pydantic_ai")
    calls.clear()

    async def main() -> None:
        async with database.engine(turn_limit=None) as engine:
            await engine.start(weather_agent("weather?"), id="agent")
            await until(lambda: len(calls) >= 2)
        assert "model" not in calls or len(calls) == 5
        async with database.engine(turn_limit=None) as engine:
            answer = await engine.get("agent").result()
        assert answer == "weather? Oslo: sunny and Rome: sunny and Bern: sunny and Lima: sunny"
        assert sorted(calls) == ["Bern", "Lima", "Oslo", "Rome", "model"]

    run(main)


@workflow
async def test_model_agent() -> str:
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    agent = Agent(TestModel(custom_output_text="fine"))

    @agent.tool_plain
    async def weather(city: str) -> str:
        return await looks_up(city)

    assert weather is not None
    return (await agent.run("hello")).output


test_model_agent.__test__ = False  # type: ignore[attr-defined]


def test_pydantic_ais_test_model_runs_in_workflow_code(memory: Database) -> None:
    pytest.importorskip("pydantic_ai")

    async def main() -> None:
        async with memory.engine(turn_limit=None) as engine:
            assert await engine.run(test_model_agent()) == "fine"

    run(main)
