"""Responses of the real clients are recognised, as they come from a provider on this machine."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Place, run

import perdure
from perdure import Engine, UsageLine, step, workflow
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM, Reply

openai = pytest.importorskip("openai", reason="the client of OpenAI isn't installed")
anthropic = pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
genai = pytest.importorskip("google.genai", reason="the client of Google isn't installed")
pydantic_ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai isn't installed")
pytest.importorskip("genai_prices", reason="the price list isn't installed")

CLIENTS: dict[str, Any] = {}
REPLY = Reply("forty two", input_tokens=1000, output_tokens=100, cached_tokens=400, reasoning_tokens=30)


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    with FakeLLM(lambda prompt: REPLY) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        CLIENTS["openai"] = openai.OpenAI(base_url=running.openai_url, api_key="any", max_retries=0)
        CLIENTS["anthropic"] = anthropic.Anthropic(base_url=running.url, api_key="any", max_retries=0)
        CLIENTS["google"] = genai.Client(api_key="any", http_options={"base_url": running.url})
        yield running
        for client in CLIENTS.values():
            client.close()


SAID: Any = [{"role": "user", "content": "why"}]


@step
def chat() -> openai.types.chat.ChatCompletion:
    return CLIENTS["openai"].chat.completions.create(model="gpt-5", messages=SAID)


@step
def responses() -> openai.types.responses.Response:
    return CLIENTS["openai"].responses.create(model="gpt-5", input="why")


@step
def messages() -> anthropic.types.Message:
    return CLIENTS["anthropic"].messages.create(model="claude-haiku-4-5", max_tokens=50, messages=SAID)


@step
def generates() -> genai.types.GenerateContentResponse:
    return CLIENTS["google"].models.generate_content(model="gemini-2.5-flash", contents="why")


@workflow
async def returns_responses() -> None:
    await asyncio.gather(chat(), responses(), messages(), generates())


async def by(engine: Engine, share: Any) -> dict[str | None, Any]:
    lines: list[UsageLine] = await engine.usage(share)
    return {line.name: line.usage for line in lines}


def test_responses_that_steps_return_are_recorded(place: Place, llm: FakeLLM) -> None:
    async def main() -> None:
        for _ in range(2):
            async with place.engine() as engine:
                await engine.run(returns_responses(), id="r")
                found = await by(engine, "model")
        assert {name: usage.calls for name, usage in found.items()} == {
            "gpt-5": 2,
            "claude-haiku-4-5": 1,
            "gemini-2.5-flash": 1,
        }
        for name, usage in found.items():
            calls = usage.calls
            told = (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
            assert told == (1000 * calls, 100 * calls, 400 * calls), name
            assert usage.unpriced_calls == 0
            assert usage.cost > 0
        assert found["gpt-5"].reasoning_tokens == 60
        assert found["gemini-2.5-flash"].reasoning_tokens == 30
        # (600 * 1.25 + 400 * 0.125 + 100 * 10) / 1e6, twice
        assert found["gpt-5"].cost == Decimal("0.0036")

    run(main)
    assert len(llm.billed) == 4


@step
def hides_it() -> str:
    message = CLIENTS["anthropic"].messages.create(model="claude-haiku-4-5", max_tokens=50, messages=SAID)
    perdure.record_usage(message, key="acme")
    return str(message.content[0].text)


@step
def tells_and_returns() -> anthropic.types.Message:
    message = CLIENTS["anthropic"].messages.create(model="claude-haiku-4-5", max_tokens=50, messages=SAID)
    perdure.record_usage(message)
    return message


@step
def streams() -> str:
    with CLIENTS["anthropic"].messages.stream(
        model="claude-haiku-4-5", max_tokens=50, messages=SAID
    ) as stream:
        perdure.record_usage(stream.get_final_message())
    chunks = CLIENTS["openai"].chat.completions.create(
        model="gpt-5", messages=SAID, stream=True, stream_options={"include_usage": True}
    )
    for chunk in chunks:
        if chunk.usage is not None:
            perdure.record_usage(chunk)
    return "done"


@workflow
async def tells_responses() -> None:
    await hides_it()
    await tells_and_returns()
    await streams()


def test_responses_that_are_told_count_once(place: Place, llm: FakeLLM) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(tells_responses(), id="r")
            found = await by(engine, "step")
            assert {name: usage.calls for name, usage in found.items()} == {
                hides_it.name: 1,
                tells_and_returns.name: 1,
                streams.name: 2,
            }
            assert {name: usage.calls for name, usage in (await by(engine, "key")).items()} == {
                "acme": 1,
                None: 3,
            }
            assert all(usage.input_tokens == 1000 * usage.calls for usage in found.values())

    run(main)


@workflow
async def only_messages() -> str:
    try:
        await messages.with_options(retry=perdure.Retry(initial=0.001, max_attempts=2))()
    except perdure.StepFailed:
        return "failed"
    return "told"


@pytest.mark.parametrize(
    ("fault", "unknown"), [(fake_llm.lost(), 1), (fake_llm.cut(), 1), (fake_llm.overloaded(), 0)]
)
def test_an_answer_that_gets_lost_shows_as_unknown(
    place: Place, llm: FakeLLM, fault: fake_llm.Fault, unknown: int
) -> None:
    llm.script(fault)

    async def main() -> None:
        async with place.engine() as engine:
            assert await engine.run(only_messages(), id="r") == "told"
            found = await engine.get("r").usage()
            assert (found.calls, found.unknown_calls) == (1, unknown)
            assert found.calls + found.unknown_calls == len(llm.billed)

    run(main)


@step
async def agent(question: str) -> str:
    models = pytest.importorskip("pydantic_ai.models.test")
    result = await pydantic_ai.Agent(models.TestModel()).run(question)
    perdure.record_usage(result, model="gpt-5", provider="openai")
    return str(result.output)


@step
async def model_response() -> None:
    response = pydantic_ai.ModelResponse(
        parts=[pydantic_ai.TextPart("hi")],
        usage=pydantic_ai.RequestUsage(input_tokens=1000, output_tokens=10, cache_read_tokens=400),
        model_name="claude-haiku-4-5",
        provider_name="anthropic",
    )
    perdure.record_usage(response)


@workflow
async def asks_agents() -> None:
    await agent("why")
    await model_response()


def test_results_of_pydantic_ai_are_read(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(asks_agents(), id="r")
            found = await by(engine, "model")
            assert found["gpt-5"].calls == 1
            assert found["gpt-5"].input_tokens > 0
            told = found["claude-haiku-4-5"]
            assert (told.input_tokens, told.output_tokens, told.cached_tokens) == (1000, 10, 400)

    run(main)


def test_responses_of_litellm_are_read() -> None:
    litellm = pytest.importorskip(
        "litellm", reason="litellm isn't installed: it brings half a hundred packages"
    )
    from perdure.runtime.responses import usage_of

    said = litellm.completion(model="anthropic/claude-haiku-4-5", messages=SAID, mock_response="hello")
    (used,) = usage_of(said)
    assert (used.provider, used.model, used.price) == ("anthropic", "claude-haiku-4-5", "litellm")
    assert (used.input, used.output) == (said.usage.prompt_tokens, said.usage.completion_tokens)
    assert used.cost == round(said._hidden_params["response_cost"] * 1e9)
