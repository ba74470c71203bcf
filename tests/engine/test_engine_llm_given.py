"""What calls of language models are given: recorded as data, changed by forks, and without any secret."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Any

import pytest
from engine_kit import Place, of_kind
from llm_kit import CLIENTS, SAID, SEEN, anthropic, chat, genai, messages, provider, pydantic, run

import perdure
from perdure import Handle, events, workflow
from perdure.ai import llm
from perdure.ai.given import Given
from perdure.ai.worst_case import worst_case
from perdure.core.usage import Spend
from perdure.errors import UsageError
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

__all__ = ["provider"]


class Facts(pydantic.BaseModel):  # type: ignore[misc,name-defined,unused-ignore]
    count: int


class Colour(enum.Enum):
    RED = "red"


@workflow
async def asks_two() -> str:
    first = await messages("aanthropic")
    create = CLIENTS["aanthropic"].messages.create
    history = [*SAID, {"role": "assistant", "content": first.content}, {"role": "user", "content": "go on"}]
    second = await llm(create, model="claude-haiku-4-5", max_tokens=50, messages=history, key="second")
    text: str = second.content[0].text
    return text


async def step_ids(handle: Handle[Any]) -> list[str]:
    return [event.step for event in await of_kind(handle, events.StepCompleted)]


def test_a_fork_changes_the_prompt_or_the_model_and_pays_for_that_alone(
    place: Place, provider: FakeLLM
) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_two(), id="r")
            await handle.result()
            assert await step_ids(handle) == ["llm:claude-haiku-4-5#1", "llm:claude-haiku-4-5[second]"]
            assert len(provider.billed) == 2
            await (await handle.fork()).result()
            assert len(provider.billed) == 2
            edited = {
                "model": "claude-opus-4-5",
                "max_tokens": 99,
                "messages": [{"role": "user", "content": "and what of lichens"}],
            }
            forked = await handle.fork(edits={"llm:claude-haiku-4-5[second]": perdure.Args(edited)})
            assert (await forked.result()).startswith("and what of lichens")
            assert len(provider.billed) == 3
            assert provider.billed[-1].model == "claude-opus-4-5"

    run(main)


@workflow
async def sends_secrets() -> None:
    await llm(
        CLIENTS["aopenai"].responses.create,
        model="gpt-5",
        input="why",
        extra_headers={"x-secret": "secret-1"},
        extra_query={"token": "secret-2"},
        timeout=30,
        tools=[
            {
                "type": "mcp",
                "server_label": "x",
                "server_url": "https://example.org",
                "authorization": "secret-3",
                "headers": {"x-key": "secret-4"},
            },
            {
                "type": "function",
                "name": "login",
                "strict": False,
                "parameters": {"type": "object", "properties": {"password": {"type": "string"}}},
            },
        ],
    )
    await llm(
        CLIENTS["google"].aio.models.generate_content,
        model="gemini-2.5-flash",
        contents="why",
        config=genai.types.GenerateContentConfig(
            temperature=0.5, http_options=genai.types.HttpOptions(headers={"x-secret": "secret-5"})
        ),
    )


def test_no_secret_is_recorded_and_all_are_sent(place: Place, provider: FakeLLM) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(sends_secrets(), id="r")
            await handle.result()
            recorded = "\n".join([str(event) async for event in handle.history()])
        assert "secret-" not in recorded
        assert "password" in recorded  # a parameter of a tool isn't one
        assert '"temperature":0.5' in recorded
        assert '"server_url"' in recorded
        if place.path is not None:
            assert b"secret-" not in place.path.read_bytes()

    run(main)
    (sent,) = [call.body for call in SENT if call.api == "responses"]
    assert sent["tools"][0]["authorization"] == "secret-3"
    assert sent["tools"][0]["headers"] == {"x-key": "secret-4"}


SENT: list[Any] = []


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> None:
    SENT.clear()
    from perdure.testing.fake_llm import provider as module

    read = module._read

    def reads(path: str, body: Any) -> Any:
        wire, prompt = read(path, body)
        SENT.append(prompt)
        return wire, prompt

    monkeypatch.setattr(module, "_read", reads)


def test_arguments_become_data_and_come_back() -> None:
    def tool(city: str) -> str:
        return city

    text = anthropic.types.TextBlock.construct(type="text", text="hi", citations=None, novel={"x": 1})
    part = genai.types.Part(inline_data=genai.types.Blob(data=b"\xff\x00", mime_type="image/png"))
    given = Given(
        {
            "model": "m",
            "content": (text, part),
            "schema": Facts,
            "tools": [tool],
            "colour": Colour.RED,
            "api_key": "secret",
            "left_out": anthropic.NOT_GIVEN,
            "each": (number for number in range(2)),
        },
        lambda name: False,
    )
    assert given.data["content"] == [
        {"type": "text", "text": "hi", "citations": None, "novel": {"x": 1}},
        {"inline_data": {"data": {"$bytes": "/wA="}, "mime_type": "image/png"}},
    ]
    assert given.data["schema"]["is"].startswith(f"class {__name__}.Facts ")
    assert given.data["tools"][0]["is"].startswith("function ")
    assert (given.data["colour"], given.data["each"]) == ("red", [0, 1])
    assert "api_key" not in given.data
    assert "left_out" not in given.data
    large = Given({"image": b"x" * 10_000, "text": "y" * 10_000, "prose": "why " * 5_000}, lambda name: False)
    assert large.data["image"]["is"].startswith("file of 10000 bytes, ")
    assert large.data["text"]["is"].startswith("file of 10000 bytes, ")
    assert large.data["prose"] == "why " * 5_000
    assert large.arguments(large.data)["image"] == b"x" * 10_000
    again = given.arguments(given.data)
    assert again["schema"] is Facts
    assert again["tools"] == [tool]
    assert again["content"][1]["inline_data"]["data"] == b"\xff\x00"
    assert again["api_key"] == "secret"
    with pytest.raises(UsageError, match="doesn't have"):
        given.arguments({"tools": [{"$live": 7, "is": "function x"}]})


@workflow
async def asks_for_facts() -> list[int]:
    chatted = await llm(
        CLIENTS["aopenai"].chat.completions.parse,
        model="gpt-5",
        messages=[{"role": "user", "content": "facts"}],
        response_format=Facts,
    )
    responded = await llm(CLIENTS["openai"].responses.parse, model="gpt-5", input="facts", text_format=Facts)
    generated = await llm(
        CLIENTS["google"].models.generate_content,
        model="gemini-2.5-flash",
        contents="facts",
        config={"response_schema": Facts, "response_mime_type": "application/json"},
    )
    parsed = [chatted.choices[0].message.parsed, responded.output_parsed, generated.parsed]
    SEEN.append(parsed)
    return [facts.count for facts in parsed]


def test_what_was_parsed_comes_back_as_its_class(place: Place, provider: FakeLLM) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_for_facts(), id="r")
            assert await handle.result() == [3, 3, 3]
            assert await (await handle.fork()).result() == [3, 3, 3]
        assert SEEN[0] == SEEN[1]
        assert all(type(facts) is Facts for facts in SEEN[1])

    run(main)
    assert len(provider.billed) == 3


def test_a_call_sets_its_worst_case_aside(place: Place, provider: FakeLLM) -> None:
    provider.script(fake_llm.lost())

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_once(), id="r")
            await handle.result()
            usage = await handle.usage()
        # 5 USD per million tokens of output, and at least something of input
        assert (usage.calls, usage.unknown_calls, usage.unknown_unpriced_calls) == (1, 1, 0)
        assert Decimal("0.00025") < usage.unknown_cost < Decimal("0.0005")

    run(main)


@workflow
async def asks_once() -> None:
    await messages("aanthropic")


def test_the_worst_case_is_estimated_on_the_high_side() -> None:
    told = worst_case("openai")
    assert told({"model": "gpt-5", "input": "x" * 300}) == Spend("gpt-5", "openai")  # nobody knows
    spend = told({"model": "gpt-5", "input": "why " * 100, "max_output_tokens": 10})
    assert 100 < spend.input_tokens < 200
    assert spend.output_tokens == 10
    assert told({"model": "gpt-5", "messages": [], "max_completion_tokens": 10, "n": 3}).output_tokens == 30
    google = worst_case("google")(
        {"model": "models/gemini", "contents": "x", "config": {"max_output_tokens": 7}}
    )
    assert (google.model, google.output_tokens) == ("gemini", 7)
    image = {"type": "image", "source": {"data": "A" * 100_000}}
    files = Given({"model": "m", "max_tokens": 1, "messages": [image]}, lambda name: False)
    assert worst_case(None)(files.data).input_tokens < 2_500
    assert worst_case("openai", makes_text=False)({"model": "e", "input": "why"}).input_tokens > 0


def test_what_it_cannot_call_is_told(provider: FakeLLM) -> None:
    async def ask() -> str:
        return ""

    client = CLIENTS["openai"]
    for wrong in (ask, "x".upper, client.chat.completions.with_raw_response.create):
        with pytest.raises(UsageError, match="give the method of a client"):
            llm(wrong)  # type: ignore[arg-type,unused-ignore]
    with pytest.raises(UsageError, match="instead of stream=True"):
        chat("openai", stream=True)
    with pytest.raises(UsageError, match="can't name a stream"):
        chat("openai", emit="")
    with pytest.raises(perdure.errors.ConfigurationError, match="1 to 255 printable"):
        llm.with_options(key="")

    async def main() -> None:
        with pytest.raises(UsageError, match="can't be streamed"):
            await llm(client.embeddings.create, model="e", input="x", emit="tokens")

    run(main)


def test_what_a_model_makes_up_gets_hold_of_nothing_live() -> None:
    made_up = {"$live": 0, "is": "a secret", "more": {"$data": {"$live": 0}}, "b": [{"$bytes": "AAAA"}]}
    tools = [{"authorization": "secret"}]
    messages = [{"content": [{"type": "tool_use", "input": made_up}, {"$live": 0}, {"$data": 1}]}]
    given = Given({"tools": tools, "messages": messages}, lambda name: False)
    assert "secret" not in str(given.data["tools"][0]["authorization"]["$live"])
    assert given.arguments(given.data) == {"tools": tools, "messages": messages}


LIMIT = perdure.RateLimit(
    "test.models", requests=perdure.Rate(1000, per=60), tokens=perdure.Rate(9000, per=60)
)
choosy = llm.with_options(
    name="asks",
    key="one",
    timeout=30,
    retry=perdure.Retry(max_attempts=2, initial=0.01),
    limit=LIMIT.cost(tokens=lambda given: given["max_tokens"]),
    spends=perdure.Spend(cost=Decimal("0.5")),
    record_inputs=10,
)


@workflow
async def asks_choosily() -> None:
    create = CLIENTS["aanthropic"].messages.create
    await choosy(create, model="claude-haiku-4-5", max_tokens=50, messages=SAID)


def test_options_are_those_of_a_step(place: Place, provider: FakeLLM) -> None:
    provider.script(fake_llm.lost(), fake_llm.bad_request())

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_choosily(), id="r")
            with pytest.raises(perdure.RunFailed, match="prompt is too long"):
                await handle.result()
            (failed,) = await of_kind(handle, events.StepFailed)
            assert failed.step == "asks[one]"
            assert len(await of_kind(handle, events.StepAttemptFailed)) == 1
            assert (await handle.usage()).unknown_cost == Decimal("0.5")
            limits = {limit.name: limit for limit in await engine.limits.list()}
            assert "test.models" in limits

    run(main)
    assert len(provider.calls) == 2
