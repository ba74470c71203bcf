"""Frameworks that nobody has told of Perdure, around clients that nobody has either."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from http_kit import Clients, World, run, step_ids

import perdure
from perdure.ai import durable_http
from perdure.testing.fake_llm import Prompt, Reply, Tool

agents = pytest.importorskip("agents", reason="the OpenAI Agents SDK isn't installed")
pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai isn't installed")
openai_model = pytest.importorskip("pydantic_ai.models.openai")
anthropic_model = pytest.importorskip("pydantic_ai.models.anthropic")
openai_provider = pytest.importorskip("pydantic_ai.providers.openai")
anthropic_provider = pytest.importorskip("pydantic_ai.providers.anthropic")

CLIENTS: list[Clients] = []
looked_up: list[str] = []


def asks_for_two_cities(prompt: Prompt) -> Reply | str:
    if prompt.body.get("tools") and "sunny" not in prompt.text:
        return Reply(tools=(Tool("weather", {"city": "Oslo"}), Tool("weather", {"city": "Rome"})))
    return f"heard of {prompt.last}"


@perdure.step
async def look_up(city: str) -> str:
    looked_up.append(city)
    return f"sunny in {city}"


async def weather(city: str) -> str:
    """The weather of a city."""
    return await look_up(city)


@perdure.workflow
async def by_pydantic_ai(provider: str) -> list[str]:
    clients = CLIENTS[-1]
    if provider == "openai":
        through = openai_provider.OpenAIProvider(openai_client=clients.openai)
        model = openai_model.OpenAIChatModel("gpt-5", provider=through)
    else:
        through = anthropic_provider.AnthropicProvider(anthropic_client=clients.anthropic)
        model = anthropic_model.AnthropicModel("claude-haiku-4-5", provider=through)
    agent = pydantic_ai.Agent(model, tools=[weather])
    first = await agent.run("Is it fine anywhere?")
    async with agent.run_stream("Tell me more") as stream:
        return [first.output, await stream.get_output()]


@perdure.workflow
async def by_openai_agents() -> list[str]:
    model = agents.OpenAIChatCompletionsModel(model="gpt-5", openai_client=CLIENTS[-1].openai)
    agent = agents.Agent(name="helper", tools=[agents.function_tool(weather)], model=model)
    untraced = agents.RunConfig(tracing_disabled=True)
    done = await agents.Runner.run(agent, "Is it fine anywhere?", run_config=untraced)
    return [str(done.final_output)]


@pytest.fixture(autouse=True)
def runner_of_its_own() -> Iterator[None]:
    """The SDK's own runner, whatever binding another test has imported."""
    before = agents.run.get_default_agent_runner()
    agents.run.set_default_agent_runner(agents.run.AgentRunner())
    yield
    agents.run.set_default_agent_runner(before)


@pytest.mark.parametrize("kind", ["pydantic-ai, openai", "pydantic-ai, anthropic", "openai-agents"])
def test_an_agent_is_durable(world: World, kind: str) -> None:
    world.llm._provider._answer = asks_for_two_cities
    looked_up.clear()

    def call() -> Any:
        return by_openai_agents() if kind == "openai-agents" else by_pydantic_ai(kind.rpartition(" ")[2])

    async def main() -> None:
        CLIENTS.append(Clients(world.llm))
        async with world.engine() as engine:
            said = await engine.run(call(), id="r")
            assert all("heard of" in each for each in said)
            asked, looked = world.hits, len(looked_up)
            assert asked >= 2 <= looked
            assert await (await engine.get("r").fork()).result() == said
            assert (world.hits, len(looked_up)) == (asked, looked)
            names = {id.rpartition("/")[2].partition("#")[0] for id in await step_ids(engine.get("r"))}
            assert names - {"llm:gpt-5", "llm:claude-haiku-4-5"} == {"test_http_frameworks.look_up"}

    with durable_http(["127.0.0.1"]):
        run(main)
