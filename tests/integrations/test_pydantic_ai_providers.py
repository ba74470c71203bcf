"""Agents in workflows with the clients of real providers, against a fake one on this machine."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai_kit import run

import perdure
from helpers.engines import Database, until
from perdure.core.retry import DEFAULT_RETRY
from perdure.integrations.pydantic_ai import PerdureDurability, emit_events
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool, rate_limited, server_error

pytest.importorskip("openai")
pytest.importorskip("anthropic")


def think(prompt: Prompt) -> Reply:
    if "squared" in prompt.text:
        return Reply("It is 9.")
    return Reply(tools=(Tool("square", {"number": 3}),))


async def square(number: int) -> str:
    """Squares."""
    return f"squared: {number * number}"


@pytest.mark.parametrize(
    "model", ["openai-chat:gpt-5-mini", "openai:gpt-5-mini", "anthropic:claude-haiku-4-5"]
)
def test_a_provider_is_asked_once(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLM(think) as llm:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", llm.openai_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", llm.url)
        agent = Agent(model, name="asks", tools=[square], capabilities=[PerdureDurability()])

        @perdure.workflow(name=f"asks-{model}")
        async def workflow() -> str:
            text = (await agent.run("Compute.")).output
            await perdure.receive("end")
            return text

        async def main() -> None:
            database = Database(None)
            llm.script(server_error(), rate_limited(0.01))
            async with database.engine() as engine:
                handle = await engine.start(workflow(), id="r")
                await until_waiting(handle)
                usage = await handle.usage()
                assert (usage.calls, usage.unpriced_calls) == (2, 0)
                assert usage.cost > 0
            async with database.engine() as engine:
                await engine.get("r").send("end", None)
                assert await engine.get("r").result() == "It is 9."
                delays = [
                    event
                    async for event in engine.get("r").history()
                    if isinstance(event, perdure.events.StepDelayed)
                ]
                assert {event.limit for event in delays} == {model.partition(":")[0].partition("-")[0]}

        run(main)
        assert len(llm.billed) == 2


async def until_waiting(handle: perdure.Handle[Any]) -> None:
    """Until the code waits for a message."""

    async def waiting() -> bool:
        return any(wait.kind == "message" for wait in (await handle.info()).waiting_for)

    await until(waiting)


def test_a_streamed_answer_is_a_stream_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeLLM(think) as llm:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", llm.openai_url)
        durability = PerdureDurability[Any](
            event_stream_handler=emit_events("events"), model={"retry": DEFAULT_RETRY}
        )
        agent = Agent("openai-chat:gpt-5-mini", name="streams", tools=[square], capabilities=[durability])

        @perdure.workflow(name="streams-openai")
        async def workflow() -> str:
            return (await agent.run("Compute.")).output

        async def main() -> None:
            async with Database(None).engine() as engine:
                handle = await engine.start(workflow(), id="r")
                assert await handle.result() == "It is 9."
                items = [item.value async for item in handle.stream("events")]
                deltas = [
                    item["delta"].get("content_delta", "")
                    for item in items
                    if item["event_kind"] == "part_delta"
                ]
                starts = [
                    item["part"].get("content", "") for item in items if item["event_kind"] == "part_start"
                ]
                assert "9" in "".join([*starts, *deltas])
                assert (await handle.usage()).calls == 2

        run(main)
        assert len(llm.billed) == 2
