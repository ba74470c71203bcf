"""A counterfactual fork of an agent: its model is asked with another prompt, and its tools act on nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel

from perdure import Args, Engine, workflow
from perdure.integrations.pydantic_ai import PerdureDurability

DONE: Counter[str] = Counter()


def think(messages: list[Any], info: Any) -> ModelResponse:
    DONE["model"] += 1
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        return ModelResponse(parts=[TextPart(f"done: {last.content}")])
    return ModelResponse(parts=[ToolCallPart("send", {"text": str(last.content)}, tool_call_id="c1")])


helper = Agent(FunctionModel(think), name="cf_helper", capabilities=[PerdureDurability()])


@helper.tool_plain
async def send(text: str) -> str:
    DONE["send"] += 1
    return f"sent {text}"


@workflow(name="cf.helps")
async def helps(question: str) -> str:
    return (await helper.run(question)).output


def test_an_agent_is_tried_with_another_prompt(tmp_path: Path) -> None:
    async def main() -> None:
        DONE.clear()
        async with Engine(f"sqlite:///{tmp_path / 'runs.db'}") as engine:
            handle = await engine.start(helps("hello"), id="r")
            assert await handle.result() == "done: sent hello"
            fork = await handle.fork(input=Args("bye"), effects="stub", id="f")
            assert await fork.result() == "done: sent hello"  # what the tool had returned before
            assert DONE == {"model": 4, "send": 1}
            told = await engine.diff("r", "f")
            assert [(step.changed, step.b is not None and step.b.stubbed) for step in told.steps] == [
                (("input", "result"), False),
                (("input",), True),
                (("input", "result"), False),
            ]
            refused = await handle.fork(input=Args("bye"), effects="reuse", id="g")
            while await refused.status() != "blocked":
                await asyncio.sleep(0.01)
            assert "call_tool:send[c1]" in str((await refused.info()).reason)
            assert DONE["send"] == 1
            real = await handle.fork(input=Args("bye"), id="h")
            assert await real.result() == "done: sent bye"
            assert DONE["send"] == 2

    asyncio.run(main())
