"""Agents of the OpenAI Agents SDK with OpenAI's own client: refusals, retries, the ledger, the SDK's settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import engine_kit
import pytest
from agents import Agent, ModelSettings, OpenAIProvider, RunConfig, RunHooks
from agents_kit import Brain, calls, says, weather
from engine_kit import Place, of_kind
from openai import AsyncOpenAI

import perdure
from perdure import events
from perdure.integrations.openai_agents import DurableRunner
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

LLM: list[FakeLLM] = []
PROMPTS: list[Prompt] = []
CLIENTS: list[AsyncOpenAI] = []


def think(prompt: Prompt) -> Reply:
    PROMPTS.append(prompt)
    if "sunny in" in prompt.text:
        return Reply("so it is sunny, as it often is", cached_tokens=3)
    return Reply("let me look", tools=(Tool("weather", {"city": "Ulm"}), Tool("weather", {"city": "Bonn"})))


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    calls.clear()
    PROMPTS.clear()
    with FakeLLM(think) as running:
        LLM.append(running)
        yield running


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def closing() -> None:
        try:
            await main()
        finally:  # else they would close themselves when they are collected, whenever that is
            while CLIENTS:
                await CLIENTS.pop().close()

    engine_kit.run(closing)


def config(responses: bool, **more: Any) -> RunConfig:
    client = AsyncOpenAI(base_url=LLM[-1].openai_url, api_key="any")  # with its own two retries
    CLIENTS.append(client)
    return RunConfig(
        model="gpt-5-mini",
        model_provider=OpenAIProvider(openai_client=client, use_responses=responses),
        tracing_disabled=True,
        **more,
    )


@perdure.workflow
async def asks(responses: bool, streamed: bool) -> list[Any]:
    agent = Agent("Asker", instructions="Tell the weather.", tools=[weather])
    settings = ModelSettings(max_tokens=100, extra_headers={"x-secret": "hush"})
    if streamed:
        stream = DurableRunner.run_streamed(
            agent, "how is it?", run_config=config(responses, model_settings=settings), emit="answer"
        )
        deltas = [
            event.data.delta
            async for event in stream.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        return [stream.final_output, deltas]
    result = await DurableRunner.run(
        agent, "how is it?", run_config=config(responses, model_settings=settings)
    )
    return [result.final_output, []]


SAID = "so it is sunny, as it often is"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_the_real_client_is_asked_once(responses: bool, streamed: bool, llm: FakeLLM, place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            ended = await engine.run(asks(responses, streamed), id="r")
            assert ended == [SAID, ["let me look", SAID] if streamed else []]
            assert len(llm.billed) == 2
            forked = await engine.get("r").fork(id="again")
            assert await forked.result() == ended
            assert len(llm.billed) == 2
            (line,) = await engine.usage("model")
            assert line.name == "gpt-5-mini"
            assert line.usage.calls == 2
            assert line.usage.unknown_calls == 0
            assert line.usage.input_tokens == sum(call.tokens.input for call in llm.billed)
            if streamed:
                live = [item.value async for item in engine.get("r").stream("answer")]
                text = "".join(e["delta"] for e in live if e["type"] == "response.output_text.delta")
                assert text == "let me look" + SAID
                assert len([e for e in live if e["type"] == "response.output_text.delta"]) > 2
            kept = [str(event) async for event in engine.get("r").history()]
            assert not any("hush" in event for event in kept)
        assert {name: times for name, times in calls.items() if "weather" in name} == {
            "weather Ulm": 1,
            "weather Bonn": 1,
        }

    run(main)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_refusals_park_the_run_and_retries_are_the_steps(streamed: bool, llm: FakeLLM, place: Place) -> None:
    llm.script(fake_llm.rate_limited(0.05), fake_llm.server_error(), fake_llm.rate_limited(0.05))

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("random.Random.uniform", lambda self, a, b: a)
            async with place.engine() as engine:
                assert (await engine.run(asks(True, streamed), id="r"))[0] == SAID
                handle = engine.get("r")
                assert len(await of_kind(handle, events.StepDelayed)) == 2
                (again,) = await of_kind(handle, events.StepAttemptFailed)
                assert "500" in again.failure.message or "InternalServerError" in again.failure.type
        assert (len(llm.calls), len(llm.billed)) == (5, 2)

    run(main)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_that_breaks_off_is_asked_for_again(streamed: bool, llm: FakeLLM, memory: Place) -> None:
    llm.script(fake_llm.cut(), None, fake_llm.lost())

    async def main() -> None:
        async with memory.engine() as engine:
            ended = await engine.run(asks(True, streamed), id="r")
            assert ended[0] == SAID
            assert len(await of_kind(engine.get("r"), events.StepAttemptFailed)) == 2
            if streamed:
                assert ended[1] == ["let me look", SAID], "workflow code sees whole answers"
                stream = engine.get("r").stream("answer", superseded=True)
                assert "superseded" in [item.kind async for item in stream]
        assert len(llm.billed) == 4

    run(main)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_what_the_provider_refuses_for_good_fails_the_run(
    streamed: bool, llm: FakeLLM, memory: Place
) -> None:
    llm.script(fake_llm.bad_request())

    async def main() -> None:
        async with memory.engine() as engine:
            with pytest.raises(perdure.RunFailed, match="BadRequestError"):
                await engine.run(asks(True, streamed), id="r")
        assert len(llm.calls) == 1

    run(main)


class Notes(RunHooks[Any]):
    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.seen.append(f"start {agent.name}")

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.seen.append(f"{tool.name}: {result}")


@perdure.workflow
async def configured() -> list[Any]:
    hooks = Notes()

    def shorter(data: Any) -> Any:
        data.model_data.instructions = "Be short."
        return data.model_data

    agent = Agent("Asker", instructions="Be long.", tools=[weather], model="another")
    result = await DurableRunner.run(
        agent,
        "how is it?",
        hooks=hooks,
        max_turns=3,
        run_config=config(True, call_model_input_filter=shorter),
    )
    return [result.final_output, hooks.seen]


def test_the_sdks_settings_are_honoured(llm: FakeLLM, memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            said, seen = await engine.run(configured(), id="r")
        assert said == SAID
        assert seen == ["start Asker", "weather: sunny in Ulm", "weather: sunny in Bonn"]
        assert {prompt.model for prompt in PROMPTS} == {"gpt-5-mini"}
        assert all(prompt.body["instructions"] == "Be short." for prompt in PROMPTS)

    run(main)


class Caching(Brain):
    """As OpenAI's own models are."""

    def _supports_default_prompt_cache_key(self) -> bool:
        return True


@perdure.workflow
async def cached() -> str:
    agent = Agent(
        "Cached", model=Caching("cached", lambda call, answered: says(str(call.model_settings.extra_args)))
    )
    return str((await DurableRunner.run(agent, "go")).final_output)


def test_the_key_of_a_prompts_cache_is_the_runs(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            assert await engine.run(cached(), id="r") == "{'prompt_cache_key': 'perdure:r'}"

    run(main)
