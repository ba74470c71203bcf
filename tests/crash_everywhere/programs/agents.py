"""An agent of Pydantic AI: models, parallel tools, a delegate, events, a question to a person, two agents at once."""

import asyncio

from pydantic_ai import Agent, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

import perdure
from perdure.integrations.pydantic_ai import AskPeople, PerdureDurability, emit_events


def thinks(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
    """Calls three tools at once, then one that needs approval, and tells what has come of it."""
    found = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
    if not found:
        parts = [ToolCallPart("double", {"number": number}, tool_call_id=f"d{number}") for number in (1, 2)]
        return ModelResponse(parts=[*parts, ToolCallPart("asks", {}, tool_call_id="a")])
    if len(found) == 3:
        return ModelResponse(parts=[ToolCallPart("pays", {"cents": 6}, tool_call_id="p")])
    return ModelResponse(parts=[TextPart(" ".join(str(part.content) for part in found))])


delegate = Agent(TestModel(custom_output_text="asked"), name="delegate")
agent = Agent(FunctionModel(thinks), name="boss", capabilities=[PerdureDurability(), AskPeople()])
other = Agent(
    TestModel(custom_output_text="hello there"),
    name="other",
    capabilities=[PerdureDurability(event_stream_handler=emit_events("events"))],
)


@agent.tool_plain
async def double(number: int) -> int:
    return number * 2


@agent.tool
async def asks(ctx: RunContext[None]) -> str:
    return (await delegate.run("go", usage=ctx.usage)).output


@agent.tool_plain(requires_approval=True)
async def pays(cents: int) -> str:
    return f"paid {cents}"


@perdure.workflow
async def works() -> list[str]:
    first, second = await asyncio.gather(agent.run("go"), other.run("go"))
    return [first.output, second.output, str(first.usage.requests)]


async def approves(engine: perdure.Engine) -> None:
    """As somebody outside would: until there is a question, or it was answered in a former life."""
    while await engine.get("works").status() not in ("completed", "failed", "blocked"):
        async for question in engine.questions(run="works"):
            await engine.answer(question.id, {"approved": True}, by="ann")
        await asyncio.sleep(0.002)


async def main() -> None:
    async with perdure.Engine("sqlite:///agents.db") as engine:
        handle = await engine.start(works(), id="works")
        await approves(engine)
        print(await handle.result())


asyncio.run(main())
