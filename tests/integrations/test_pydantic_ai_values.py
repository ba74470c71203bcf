"""Messages of pydantic-ai as arguments and results of steps and workflows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic_ai import Agent, AgentRunResult, BinaryContent, ImageUrl, ToolReturn
from pydantic_ai.direct import model_request
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RunUsage
from pydantic_ai_kit import echo, run

import perdure
from helpers.engines import Database
from perdure.codec.values import ValueCodec
from perdure.errors import NotSerializableError, UndecodableError
from perdure.integrations.pydantic_ai import PerdureDurability


@dataclass
class Talk:
    """A conversation, as a program keeps it."""

    topic: str
    messages: list[ModelMessage]


def picture() -> ToolReturn:
    """A tool."""
    return ToolReturn(
        return_value="a picture", content=[BinaryContent(b"\x89PNG\xff", media_type="image/png")]
    )


def conversation() -> list[ModelMessage]:
    agent = Agent(TestModel(), tools=[picture])

    async def main() -> list[ModelMessage]:
        prompt: Any = [
            "look",
            BinaryContent(b"\x00\xff", media_type="image/png"),
            ImageUrl("https://a.example/b.png"),
        ]
        return (await agent.run(prompt)).all_messages()

    found: list[ModelMessage] = run(main)
    assert isinstance(found[-1], ModelResponse)
    found[-1].parts = [ThinkingPart("hm", signature="s"), *found[-1].parts]
    return found


def test_conversations_come_back() -> None:
    messages = conversation()
    data, decoded = ValueCodec[Any](list[ModelMessage], "result of step x").record(messages)
    again = ValueCodec[Any](list[ModelMessage], "result of step x").decode(data)
    for found in (decoded, again):
        assert [type(message) for message in found] == [type(message) for message in messages]
        assert found[0].parts[0].content[1].data == b"\x00\xff"
        assert found[-1].usage == messages[-1].usage  # type: ignore[union-attr]
        assert found[-1].parts == messages[-1].parts
        returned = [part for message in found for part in message.parts if isinstance(part, ToolReturnPart)]
        assert returned[0].content == "a picture"


@pytest.mark.parametrize("annotation", [ModelResponse, ModelMessage, ModelRequest | ModelResponse | None])
def test_a_response_comes_back(annotation: Any) -> None:
    response = ModelResponse(parts=[TextPart("hello"), ToolCallPart("t", {"a": 1})], model_name="m")
    data, decoded = ValueCodec[Any](annotation, "x").record(response)
    assert decoded == response
    assert ValueCodec[Any](annotation, "x").decode(data) == response


def test_what_isnt_one_is_refused() -> None:
    codec = ValueCodec[Any](ModelResponse, "result of step x")
    with pytest.raises(NotSerializableError, match="result of step x"):
        codec.record({"kind": "response"})
    with pytest.raises(NotSerializableError, match="object"):
        codec.record(ModelResponse(parts=[ToolCallPart("t", {"a": object()})]))
    with pytest.raises(UndecodableError, match=r"parts\.0"):
        codec.decode(b'{"parts":[{"part_kind":"text","content":7}],"kind":"response"}')


def test_other_types_are_read_as_ever() -> None:
    assert ValueCodec[Any](dict[str, int], "x").record({"a": 1}) == (b'{"a":1}', {"a": 1})
    assert ValueCodec[Any](Talk, "x").record(Talk("t", []))[1] == Talk("t", [])


def test_steps_and_workflows_take_and_give_them() -> None:
    agent = Agent(echo, name="values", capabilities=[PerdureDurability()])

    @perdure.step(name="asks-directly")
    async def asks(text: str) -> ModelResponse:
        return await model_request(echo, [ModelRequest(parts=[UserPromptPart(text)])])

    @perdure.step(name="counts-messages")
    async def counts(messages: list[ModelMessage]) -> int:
        return sum(isinstance(message, ModelResponse) for message in messages)

    @perdure.workflow(name="talks")
    async def talks(talk: Talk) -> Talk:
        response = await asks(talk.topic)
        assert isinstance(response.parts[0], TextPart)
        result = await agent.run(response.parts[0].content, message_history=talk.messages)
        messages = result.all_messages()
        return Talk(f"{await counts(messages)} answers", messages)

    @perdure.workflow(name="gives-result")
    async def gives() -> AgentRunResult[str]:
        return await agent.run("go")

    async def main() -> None:
        database = Database(None)
        async with database.engine() as engine:
            first = await engine.run(talks(Talk("go", [])), id="a")
            assert first.topic == "1 answers"
            second = await engine.run(talks(Talk("on", first.messages)), id="b")
            assert (second.topic, len(second.messages)) == ("2 answers", 4)
            assert (await engine.get("b").usage()).calls == 2
            result = await engine.run(gives(), id="c")
        async with database.engine(worker=False) as engine:
            assert await engine.get("b").result() == second
        assert result.output == "Echo: go"
        assert len(result.all_messages()) == 2
        assert isinstance(result.usage, RunUsage)

    run(main)
