"""What agents in workflows spend, delegates included, and what forks of their runs ask again."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import (
    UsageLimitExceeded,
)
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage, UsageLimits
from pydantic_ai_kit import calls_tools, echo, play, played, run, until

import perdure
from helpers.engines import Database
from perdure.integrations.pydantic_ai import PerdureDurability

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


# -- usage and money ----------------------------------------------------------------------------------


def spends(text: str, given: int, made: int) -> FunctionModel:
    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done["asked"] += 1
        usage = RequestUsage(input_tokens=given, output_tokens=made)
        return ModelResponse(parts=[TextPart(text)], usage=usage, model_name="gpt-5", provider_name="openai")

    return FunctionModel(respond, model_name="gpt-5")


def test_what_an_agent_spends_is_in_the_ledger_once() -> None:
    agent = Agent(spends("x", 1000, 100), name="spends", capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("go")).output

    async def main() -> None:
        found = await play(body)
        async with found.database.engine(worker=False) as engine:
            usage = await engine.get(found.id).usage()
            assert (usage.calls, usage.input_tokens, usage.output_tokens) == (1, 1000, 100)
            assert usage.cost > 0

    run(main)
    assert done["asked"] == 1


def test_what_a_delegate_uses_survives_a_replay() -> None:
    delegate = Agent(spends("found", 70, 7), name="delegate", capabilities=[PerdureDurability()])

    async def delegates(ctx: RunContext[Any], question: str) -> str:
        return (await delegate.run(question, usage=ctx.usage)).output

    parts = [ToolCallPart("delegates", {"question": str(i)}, tool_call_id=f"d{i}") for i in range(3)]
    agent = Agent(calls_tools(*parts), name="boss", tools=[delegates], capabilities=[PerdureDurability()])

    async def body() -> list[int]:
        usage = (await agent.run("go")).usage
        return [usage.requests, usage.tool_calls, usage.input_tokens, usage.output_tokens]

    async def main() -> None:
        found = await play(body)
        assert found.again == found.value
        assert found.value[0] == 5
        assert found.value[2] > 210
        async with found.database.engine(worker=False) as engine:
            usage = await engine.get(found.id).usage()
            assert usage.calls == 5
            lines = {line.name: line.usage for line in await engine.usage(by="model", run=found.id)}
            assert (lines["gpt-5"].calls, lines["gpt-5"].input_tokens) == (3, 210)

    run(main)
    assert done["asked"] == 3


def test_a_limit_of_usage_counts_delegates_on_replay_as_well() -> None:
    delegate = Agent(spends("found", 500, 7), name="limited-delegate")

    async def delegates(ctx: RunContext[Any]) -> str:
        return (await delegate.run("go", usage=ctx.usage)).output

    agent = Agent(
        calls_tools(ToolCallPart("delegates", {}, tool_call_id="d")),
        name="limited-boss",
        tools=[delegates],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go", usage_limits=UsageLimits(input_tokens_limit=400))

    with pytest.raises(UsageLimitExceeded):
        played(body)
    assert done["asked"] == 1


def test_a_delegate_may_be_asked_by_workflow_code() -> None:
    """Then its requests are steps of their own."""
    delegate = Agent(echo, name="own-steps", capabilities=[PerdureDurability()])

    async def delegates(ctx: RunContext[Any], question: str) -> str:
        return (await delegate.run(question, usage=ctx.usage)).output

    parts = [ToolCallPart("delegates", {"question": str(i)}, tool_call_id=f"d{i}") for i in range(3)]
    agent = Agent(
        calls_tools(*parts),
        name="asks",
        tools=[Tool(delegates, metadata={"perdure": False})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        result = await agent.run("go")
        parts = [part for message in result.all_messages() for part in message.parts]
        texts = [part.content for part in parts if isinstance(part, ToolReturnPart)]
        return [texts, result.usage.requests]

    found = played(body)
    assert found.value == [["Echo: 0", "Echo: 1", "Echo: 2"], 5]
    assert sorted(set(found.names)) == ["asks__model.request", "own-steps__model.request"]
    assert len(set(found.steps)) == 5


def test_clients_dont_try_again_by_themselves() -> None:
    seen: list[Any] = []

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(dict(info.model_settings or {}))
        return ModelResponse(parts=[TextPart("x")])

    agent = Agent(FunctionModel(respond), name="no-retries", capabilities=[PerdureDurability()])

    async def body() -> str:
        await agent.run("go", model_settings={"max_retries": 3})
        return (await agent.run("go", model_settings={"temperature": 0.5})).output

    played(body)
    assert seen == [{"max_retries": 3}, {"temperature": 0.5, "max_retries": 0}]


# -- forks --------------------------------------------------------------------------------------------


async def square(number: int) -> int:
    """Squares."""
    done[f"square {number}"] += 1
    return number * number


def says(text: str) -> FunctionModel:
    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done["asked"] += 1
        found = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if found:
            return ModelResponse(parts=[TextPart(f"{text} {found[0].content}")])
        return ModelResponse(parts=[ToolCallPart("square", {"number": 3}, tool_call_id="s")])

    return FunctionModel(respond, model_name="says")


def test_a_fork_reuses_what_doesnt_change() -> None:
    agent = Agent(says("it is"), name="forked", tools=[square], capabilities=[PerdureDurability()])

    @perdure.workflow(name="forked-agent")
    async def workflow(question: str) -> str:
        return (await agent.run(question)).output

    async def main() -> None:
        async with Database(None).engine() as engine:
            handle = await engine.start(workflow("go"), id="f")
            assert await handle.result() == "it is 9"
            assert done == {"asked": 2, "square 3": 1}
            same = await handle.fork()
            assert await same.result() == "it is 9"
            assert done == {"asked": 2, "square 3": 1}
            step = "forked__function_toolset__<agent>.call_tool:square[s]"
            edited = await handle.fork(edits={step: 10})
            assert await edited.result() == "it is 10"
            assert done == {"asked": 3, "square 3": 1}

    run(main)


def test_a_fork_with_another_prompt_asks_again_where_it_matters() -> None:
    prompts = ["be kind"]
    first = Agent(echo, name="first", capabilities=[PerdureDurability()])
    second = Agent(says("it is"), name="second", tools=[square], capabilities=[PerdureDurability()])

    @second.instructions
    def instructions() -> str:
        return prompts[-1]

    @perdure.workflow(name="two-agents")
    async def workflow(question: str) -> str:
        text = (await first.run(question)).output
        return (await second.run(text)).output

    async def main() -> None:
        async with Database(None).engine() as engine:
            handle = await engine.start(workflow("go"), id="f")
            assert await handle.result() == "it is 9"
            prompts.append("be brief")
            forked = await handle.fork()
            assert await forked.result() == "it is 9"
            # The second agent's requests changed, its tool's call didn't.
            assert done == {"asked": 4, "square 3": 1}

    run(main)


def test_code_that_asks_something_else_on_replay_blocks() -> None:
    prompts = ["be kind"]
    agent = Agent(echo, name="diverges", capabilities=[PerdureDurability()])

    @agent.instructions
    def instructions() -> str:
        return prompts[-1]

    @perdure.workflow(name="diverging-agent")
    async def workflow() -> str:
        text = (await agent.run("go")).output
        await perdure.receive("end")
        return text

    async def main() -> None:
        database = Database(None)
        async with database.engine() as engine:
            await engine.start(workflow(), id="d")
            handle = engine.get("d")

            async def is_now(status: str) -> bool:
                return await engine.get("d").status() == status

            await until(lambda: is_now("waiting"))
        prompts.append("be brief")
        async with database.engine() as engine:
            await engine.get("d").send("end", None)
            handle = engine.get("d")

            async def blocked() -> bool:
                return await handle.status() == "blocked"

            await until(blocked)
            reason = (await handle.info()).reason
            assert reason is not None
            assert "be kind" in reason
            assert "be brief" in reason
        prompts.pop()
        async with database.engine() as engine:
            assert await engine.get("d").result() == "Echo: go"

    run(main)


# -- capabilities with operations of their own --------------------------------------------------------


def test_operations_of_capabilities_are_steps() -> None:
    from dataclasses import dataclass

    from pydantic_ai.capabilities import durable_operation

    @dataclass
    class Looks(AbstractCapability[Any]):
        id: str | None = "looks"

        @durable_operation(name="look")
        async def look(self, ctx: RunContext[Any], what: str) -> dict[str, int]:
            done[f"look {what}"] += 1
            return {what: done[f"look {what}"]}

        async def before_run(self, ctx: RunContext[Any]) -> None:
            done["sum"] += sum((await self.look(ctx, "here")).values())

    capabilities: list[Any] = [Looks(), PerdureDurability()]
    agent = Agent(echo, name="operations", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.steps[0].startswith("operations__capability__looks.look")
    assert done["look here"] == 1
    assert done["sum"] == 2


def test_many_agents_at_once_on_a_file(tmp_path: Any) -> None:
    agent = Agent(says("it is"), name="many", tools=[square], capabilities=[PerdureDurability()])

    @perdure.workflow(name="many-agents")
    async def workflow(number: int) -> str:
        results = await asyncio.gather(*(agent.run(str(i)) for i in range(3)))
        return results[0].output

    async def main() -> None:
        database = Database(tmp_path / "runs.db")
        async with database.engine() as engine:
            handles = [await engine.start(workflow(i), id=f"m{i}") for i in range(5)]
            assert [await handle.result() for handle in handles] == ["it is 9"] * 5
        assert done == {"asked": 30, "square 3": 15}

    run(main)


def test_in_a_counterfactual_fork_models_answer_and_tools_dont_act() -> None:
    prompts = ["be kind"]

    async def looks(number: int) -> int:
        """Looks something up."""
        done[f"looks {number}"] += 1
        return number + 1

    def plans(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        done["asked"] += 1
        found = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        if found:
            return ModelResponse(parts=[TextPart(" ".join(str(part.content) for part in found))])
        number = len(prompts)
        parts = [ToolCallPart("looks", {"number": number}, tool_call_id="l")]
        return ModelResponse(parts=[*parts, ToolCallPart("square", {"number": number}, tool_call_id="s")])

    agent = Agent(
        FunctionModel(plans, model_name="plans"),
        name="plans",
        tools=[Tool(looks, metadata={"perdure": {"effect": "read"}}), square],
        capabilities=[PerdureDurability()],
    )

    @agent.instructions
    def instructions() -> str:
        return prompts[-1]

    @perdure.workflow(name="plans-agent")
    async def workflow(question: str) -> str:
        return (await agent.run(question)).output

    async def main() -> None:
        async with Database(None).engine() as engine:
            handle = await engine.start(workflow("go"), id="f")
            assert await handle.result() == "2 1"
            prompts.append("be brief")
            fork = await handle.fork(
                effects="reuse", stubs={"plans__function_toolset__<agent>.call_tool:square": 100}
            )
            assert await fork.result() == "3 100"
            assert done == {"asked": 4, "looks 1": 1, "looks 2": 1, "square 1": 1}

    run(main)


def test_a_request_says_what_it_spends_at_most() -> None:
    from perdure.integrations.pydantic_ai_given import as_data, at_most

    message = ModelRequest(
        parts=[UserPromptPart(["x" * 300, BinaryContent(b"\x00", media_type="image/png")])]
    )
    given = {"model": "gpt-5", "messages": as_data([message]), "settings": {"max_tokens": 50}}
    most = at_most(given)
    assert (most.model, most.output_tokens) == ("gpt-5", 50)
    assert 2100 < most.input_tokens < 2300
    assert at_most({"model": "gpt-5", "messages": []}).output_tokens == 0
