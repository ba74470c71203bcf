"""Toolsets of agents in workflows, and the options of tools."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from pydantic_ai import Agent, FunctionToolset, RunContext, Tool
from pydantic_ai.capabilities import Capability, DynamicCapability, SetToolMetadata, Toolset
from pydantic_ai.exceptions import ModelRetry, UserError
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import DynamicToolset, ExternalToolset
from pydantic_ai_kit import calls_tools, echo, played, run

import perdure
from perdure.errors import ConfigurationError
from perdure.integrations.pydantic_ai import PerdureDurability

done: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


def returns(result: Any) -> list[Any]:
    """What tools have returned, by the id of their call."""
    parts = [part for message in result.all_messages() for part in message.parts]
    return [(part.tool_call_id, part.content) for part in parts if isinstance(part, ToolReturnPart)]


async def square(number: int) -> int:
    """Squares."""
    done[f"square {number}"] += 1
    return number * number


# -- options ------------------------------------------------------------------------------------------


def test_a_tools_metadata_counts_more_than_what_holds_for_all() -> None:
    async def flickers() -> str:
        done["flickers"] += 1
        raise ValueError("never")

    durability = PerdureDurability[Any](tool={"retry": perdure.Retry(max_attempts=2, initial=0.001)})
    metadata = {"perdure": {"retry": perdure.Retry(max_attempts=4, initial=0.001)}}
    agent = Agent(
        calls_tools(ToolCallPart("flickers", {}, tool_call_id="f")),
        name="metadata",
        tools=[Tool(flickers, metadata=metadata)],
        capabilities=[durability],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(ValueError, match="never"):
        played(body)
    assert done["flickers"] == 4


def test_metadata_can_be_set_by_a_capability() -> None:
    capabilities: list[Any] = [SetToolMetadata(perdure=False), PerdureDurability()]
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="set",
        tools=[square],
        capabilities=capabilities,
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("a", 9)]
    assert found.names == ["set__model.request"] * 2


def test_a_tool_may_be_workflow_code() -> None:
    """Then it can do what workflows can: wait for weeks, start children, ask people."""

    async def waits() -> str:
        done["waits"] += 1
        await perdure.sleep(0.01)
        return str(perdure.info().id)

    agent = Agent(
        calls_tools(ToolCallPart("waits", {}, tool_call_id="w")),
        name="inline",
        tools=[Tool(waits, metadata={"perdure": False})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("w", found.id)]
    assert found.names == ["inline__model.request"] * 2
    assert done["waits"] == 2  # once more for the replay


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no tries"):
        PerdureDurability(tool={"tries": 3})  # type: ignore[typeddict-unknown-key]
    with pytest.raises(ConfigurationError, match="on_refusal"):
        PerdureDurability(on_refusal="never")  # type: ignore[arg-type]

    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="odd",
        tools=[Tool(square, metadata={"perdure": "yes"})],
        capabilities=[PerdureDurability()],
    )

    async def body() -> None:
        await agent.run("go")

    with pytest.raises(ConfigurationError, match="give a StepConfig, or False"):
        played(body)


# -- toolsets -----------------------------------------------------------------------------------------


def test_tools_of_a_dynamic_capability_are_steps() -> None:
    def factory(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability(tools=[square])

    capabilities: list[Any] = [DynamicCapability(factory, id="dyn"), PerdureDurability()]
    agent = Agent(TestModel(), name="dynamic", capabilities=capabilities)

    async def body() -> str:
        return (await agent.run("go")).output

    found = played(body)
    assert found.value == '{"square":0}'
    assert done == {"square 0": 1}
    assert "dynamic__dynamic_toolset__dyn.get_tools" in found.names
    assert "dynamic__dynamic_toolset__dyn.call_tool:square" in found.names


def test_a_dynamic_tools_retry_goes_to_the_model() -> None:
    async def fussy() -> str:
        done["fussy"] += 1
        if done["fussy"] == 1:
            raise ModelRetry("again")
        return "good"

    toolset = DynamicToolset[Any](lambda ctx: FunctionToolset([fussy]), id="dyn")
    agent = Agent(TestModel(), name="dyn-retry", toolsets=[toolset], capabilities=[PerdureDurability()])

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == '{"fussy":"good"}'
    assert done["fussy"] == 2


def test_a_dynamic_toolset_may_be_made_once_for_a_run() -> None:
    made: list[int] = []

    def factory(ctx: RunContext[Any]) -> FunctionToolset[Any]:
        made.append(1)
        return FunctionToolset([square])

    toolset = DynamicToolset[Any](factory, id="once", per_run_step=False)
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="once",
        toolsets=[toolset],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    assert played(body).value == [("a", 9)]
    assert done == {"square 3": 1}


def test_a_dynamic_capability_needs_an_id() -> None:
    def factory(ctx: RunContext[Any]) -> Capability[Any]:
        return Capability()

    with pytest.raises(UserError, match=r"DynamicCapability\(\.\.\., id='user-tools'\)"):
        Agent(TestModel(), name="idless", capabilities=[DynamicCapability(factory), PerdureDurability()])
    with pytest.raises(UserError, match="wrap it explicitly"):
        Agent(TestModel(), name="bare", capabilities=[factory, PerdureDurability()])


def test_a_toolset_needs_an_id() -> None:
    with pytest.raises(UserError, match=r"Toolsets that are 'leaves'.*unique `id`.*Perdure"):
        Agent(
            TestModel(),
            name="idless",
            toolsets=[FunctionToolset([square])],
            capabilities=[PerdureDurability()],
        )


def test_an_id_names_one_toolset() -> None:
    two = [FunctionToolset[Any]([square], id="dup"), FunctionToolset[Any](id="dup")]
    with pytest.raises(UserError, match="Two toolsets have the same `id` 'dup'"):
        Agent(TestModel(), name="dup", toolsets=two, capabilities=[PerdureDurability()])


def test_a_toolset_may_be_there_twice() -> None:
    shared = FunctionToolset[Any](id="shared")
    agent = Agent(TestModel(), name="shared", toolsets=[shared, shared], capabilities=[PerdureDurability()])
    assert PerdureDurability.from_agent(agent) is not None


def test_toolsets_of_capabilities_are_steps() -> None:
    capabilities: list[Any] = [Toolset(FunctionToolset([square], id="given")), PerdureDurability()]
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="given",
        capabilities=capabilities,
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("a", 9)]
    assert "given__function_toolset__given.call_tool:square" in found.names


@pytest.mark.parametrize(
    "toolset",
    [
        FunctionToolset[Any]([square], id="late"),
        DynamicToolset[Any](lambda ctx: FunctionToolset([square]), id="late"),
    ],
    ids=["function", "dynamic"],
)
def test_toolsets_that_come_with_a_run_are_refused_in_runs(toolset: Any) -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="a")),
        name="late",
        capabilities=[PerdureDurability()],
    )
    refused = f"{type(toolset).__name__} 'late' cannot be added at runtime with Perdure"

    async def in_run() -> None:
        await agent.run("go", toolsets=[toolset])

    async def in_iter() -> None:
        async with agent.iter("go", toolsets=[toolset]):
            raise AssertionError("it isn't reached")

    async def by_capability() -> None:
        await agent.run("go", capabilities=[Toolset(toolset)])

    for body in (in_run, in_iter, by_capability):
        with pytest.raises(UserError, match=refused):
            played(body)

    async def outside() -> None:
        assert returns(await agent.run("go", toolsets=[toolset])) == [("a", 9)]

    run(outside)
    assert done == {"square 3": 1}


def test_one_with_an_id_that_is_taken_is_refused() -> None:
    agent = Agent(
        echo, name="taken", toolsets=[FunctionToolset[Any](id="mine")], capabilities=[PerdureDurability()]
    )

    async def body() -> None:
        await agent.run("go", toolsets=[ExternalToolset[Any]([], id="mine")])

    with pytest.raises(UserError, match="same `id` 'mine'"):
        played(body)


def test_a_tools_timeout_is_kept() -> None:
    async def hangs() -> str:
        done["hangs"] += 1
        await asyncio.sleep(3600)
        return "never"

    agent = Agent(
        calls_tools(ToolCallPart("hangs", {}, tool_call_id="h"), then="gave up"),
        name="hangs",
        tools=[Tool(hangs, timeout=0.02, max_retries=0)],
        capabilities=[PerdureDurability()],
    )

    async def body() -> str:
        return (await agent.run("go")).output

    with pytest.raises(Exception, match=r"retries|imed out"):
        played(body)
    assert done["hangs"] == 1
