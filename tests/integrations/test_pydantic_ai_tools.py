"""Tools of agents in workflows: known by their calls, in any order, with live dependencies."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.models.test import TestModel
from pydantic_ai_kit import calls_tools, played, run, until

import perdure
from helpers.engines import Database
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


# -- parallel tools -----------------------------------------------------------------------------------


def test_a_tool_is_a_step_known_by_its_call() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="call-1")),
        name="squares",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [("call-1", 9)]
    assert found.steps == [
        "squares__model.request[1.1]",
        "squares__function_toolset__<agent>.call_tool:square[call-1]",
        "squares__model.request[1.2]",
    ]
    assert done == {"square 3": 1}


def test_parallel_tools_end_in_any_order_and_replay() -> None:
    """Ten tools that end in reverse order: each gets its own result back."""
    turns = [asyncio.Event() for _ in range(11)]

    async def nth(number: int) -> int:
        await asyncio.wait_for(turns[number + 1].wait(), 60)
        turns[number].set()
        done["nth"] += 1
        return number * 10

    turns[10].set()
    calls = [ToolCallPart("nth", {"number": number}, tool_call_id=f"c{number}") for number in range(10)]
    agent = Agent(calls_tools(*calls), name="reversed", tools=[nth], capabilities=[PerdureDurability()])

    async def body() -> list[Any]:
        return returns(await agent.run("go"))

    found = played(body)
    assert found.value == [(f"c{number}", number * 10) for number in range(10)]
    ended = [step for step in found.steps if "call_tool" in step]
    assert [step[-3:-1] for step in ended] == [f"c{number}" for number in reversed(range(10))]
    assert done["nth"] == 10


def test_after_a_crash_only_the_missing_tools_execute() -> None:
    """Half of the tools are recorded when the engine goes: the other half, and no model, is asked again."""
    database, hold = Database(None), asyncio.Event
    gate: list[asyncio.Event] = []

    async def nth(number: int) -> int:
        done[f"nth {number}"] += 1
        if number >= 5 and len(gate) == 1:
            await gate[0].wait()
        return number

    calls = [ToolCallPart("nth", {"number": number}, tool_call_id=f"c{number}") for number in range(10)]
    model = calls_tools(*calls)
    agent = Agent(model, name="half", tools=[nth], capabilities=[PerdureDurability()])

    @perdure.workflow(name="half-done")
    async def half_done() -> list[tuple[str, int]]:
        return returns(await agent.run("go"))

    async def main() -> None:
        gate.append(hold())
        async with database.engine() as engine:
            handle = await engine.start(half_done(), id="h")

            async def half() -> bool:
                ended = [
                    event
                    async for event in handle.history()
                    if isinstance(event, perdure.events.StepCompleted)
                ]
                return len(ended) == 6

            await until(half)
            await until(lambda: sum(done.values()) == 10)
        gate.append(hold())  # what comes now doesn't wait
        async with database.engine() as engine:
            assert await engine.get("h").result() == [(f"c{number}", number) for number in range(10)]
        assert done == {f"nth {number}": 1 if number < 5 else 2 for number in range(10)}

    run(main)


def test_a_call_id_that_is_used_again_gets_a_number() -> None:
    agent = Agent(TestModel(), name="again", tools=[Tool(square)], capabilities=[PerdureDurability()])

    async def body() -> list[str]:
        return [(await agent.run("a")).output, (await agent.run("b")).output]

    found = played(body)
    assert done == {"square 0": 2}
    assert [step.partition("[")[2] for step in found.steps if "call_tool" in step] == [
        "pyd_ai_tool_call_id__square]",
        "pyd_ai_tool_call_id__square~2]",
    ]


def test_agents_run_at_the_same_time() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 2}, tool_call_id="same")),
        name="at-once",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return [returns(result) for result in await asyncio.gather(*(agent.run(str(i)) for i in range(5)))]

    found = played(body)
    assert found.value == [[("same", 4)]] * 5
    assert len(set(found.steps)) == 15


# -- sync functions, dependencies ---------------------------------------------------------------------


def test_sync_tools_run_in_threads_and_sync_functions_of_the_workflow_dont() -> None:
    import threading

    main_thread = threading.get_ident()
    where: list[bool] = []

    def in_thread(number: int) -> int:
        where.append(threading.get_ident() != main_thread)
        return number

    agent = Agent(
        calls_tools(ToolCallPart("in_thread", {"number": 1}, tool_call_id="t")),
        name="threads",
        tools=[in_thread],
        capabilities=[PerdureDurability()],
    )

    @agent.instructions
    def instructions() -> str:
        return "be quick"

    @agent.output_validator
    def validates(text: str) -> str:
        return text.upper()

    async def body() -> str:
        return (await agent.run("go")).output

    assert played(body).value == "DONE"
    assert where == [True]


@dataclass
class Deps:
    """What no history could hold."""

    client: Any = field(default_factory=object)
    seen: list[str] = field(default_factory=list)


def test_dependencies_are_passed_as_they_are() -> None:
    deps = Deps()

    async def look(ctx: RunContext[Deps], what: str) -> str:
        assert ctx.deps.client is deps.client
        ctx.deps.seen.append(what)
        return what

    agent = Agent(
        calls_tools(ToolCallPart("look", {"what": "this"}, tool_call_id="l")),
        name="deps",
        deps_type=Deps,
        tools=[look],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[Any]:
        return returns(await agent.run("go", deps=deps))

    assert played(body).value == [("l", "this")]
    assert deps.seen == ["this"]


class City(BaseModel):
    name: str
    size: int


@dataclass
class Answer:
    city: City
    why: str


def test_structured_output_and_arguments_are_typed() -> None:
    async def grows(city: City) -> City:
        assert isinstance(city, City)
        return City(name=city.name, size=city.size + 1)

    async def scripted(messages: Any, info: Any) -> Any:
        from pydantic_ai.messages import ModelResponse

        if len(messages) == 1:
            return ModelResponse(
                parts=[ToolCallPart("grows", {"city": {"name": "Ulm", "size": 1}}, tool_call_id="g")]
            )
        output = info.output_tools[0].name
        answer = {"city": {"name": "Ulm", "size": 2}, "why": "it grew"}
        return ModelResponse(parts=[ToolCallPart(output, answer, tool_call_id="o")])

    from pydantic_ai.models.function import FunctionModel

    agent = Agent(
        FunctionModel(scripted),
        name="typed",
        output_type=Answer,
        tools=[grows],
        capabilities=[PerdureDurability()],
    )

    async def body() -> Answer:
        result = await agent.run("go")
        assert returns(result)[0] == ("g", {"name": "Ulm", "size": 2})
        return result.output

    assert played(body).value == Answer(City(name="Ulm", size=2), "it grew")


def test_an_agents_run_can_be_gone_through_node_by_node() -> None:
    agent = Agent(
        calls_tools(ToolCallPart("square", {"number": 3}, tool_call_id="n")),
        name="nodes",
        tools=[square],
        capabilities=[PerdureDurability()],
    )

    async def body() -> list[str]:
        nodes: list[str] = []
        async with agent.iter("go") as agent_run:
            async for node in agent_run:
                nodes.append(type(node).__name__)
                await perdure.sleep(0.001)
        assert agent_run.result is not None
        return [*nodes, agent_run.result.output]

    found = played(body)
    assert found.value[-2:] == ["End", "done"]
    assert found.names[-1] == "nodes__model.request"
    assert done == {"square 3": 1}
