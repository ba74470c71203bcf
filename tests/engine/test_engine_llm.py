"""`perdure.ai.llm`: calls of the real clients as durable steps, against a provider on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_kit import Place, run

from perdure import workflow
from perdure.ai import llm
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

openai = pytest.importorskip("openai", reason="the client of OpenAI isn't installed")
anthropic = pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")
genai = pytest.importorskip("google.genai", reason="the client of Google isn't installed")
pydantic = pytest.importorskip("pydantic", reason="pydantic isn't installed")

CLIENTS: dict[str, Any] = {}
SAID: Any = [{"role": "user", "content": "why do tardigrades survive"}]
SEEN: list[Any] = []


class Facts(pydantic.BaseModel):  # type: ignore[misc,name-defined,unused-ignore]
    count: int


def says(prompt: Prompt) -> Reply:
    if "facts" in prompt.last:
        return Reply('{"count": 3}')
    if "weather" in prompt.last:
        return Reply(
            "I'll look it up now for you", (Tool("weather", {"city": "Basel"}), Tool("time", {"zone": 1}))
        )
    return Reply(f"{prompt.last}, since they are small and slow", cached_tokens=3, reasoning_tokens=5)


@pytest.fixture
def provider() -> Iterator[FakeLLM]:
    with FakeLLM(says) as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        SEEN.clear()
        options: Any = {"base_url": running.url, "api_key": "secret-7"}
        CLIENTS["openai"] = openai.OpenAI(base_url=running.openai_url, api_key="secret-7")
        CLIENTS["aopenai"] = openai.AsyncOpenAI(base_url=running.openai_url, api_key="secret-7")
        CLIENTS["anthropic"] = anthropic.Anthropic(**options)
        CLIENTS["aanthropic"] = anthropic.AsyncAnthropic(**options)
        CLIENTS["google"] = genai.Client(api_key="secret-7", http_options={"base_url": running.url})
        yield running
        for client in CLIENTS.values():
            if not hasattr(client, "with_options") or "Async" not in type(client).__name__:
                client.close()


def chat(client: str, **more: Any) -> Any:
    return llm(CLIENTS[client].chat.completions.create, model="gpt-5", messages=SAID, **more)


def responses(client: str, **more: Any) -> Any:
    return llm(CLIENTS[client].responses.create, model="gpt-5", input="why", **more)


def messages(client: str, **more: Any) -> Any:
    create = CLIENTS[client].messages.create
    return llm(create, model="claude-haiku-4-5", max_tokens=50, messages=SAID, **more)


def generates(**more: Any) -> Any:
    return llm(CLIENTS["google"].models.generate_content, model="gemini-2.5-flash", contents="why", **more)


def agenerates(**more: Any) -> Any:
    create = CLIENTS["google"].aio.models.generate_content
    return llm(create, model="gemini-2.5-flash", contents="why", **more)


CALLS: dict[str, Callable[..., Any]] = {
    "chat": lambda **more: chat("openai", **more),
    "chat, async": lambda **more: chat("aopenai", **more),
    "responses": lambda **more: responses("openai", **more),
    "responses, async": lambda **more: responses("aopenai", **more),
    "messages": lambda **more: messages("anthropic", **more),
    "messages, async": lambda **more: messages("aanthropic", **more),
    "google": generates,
    "google, async": agenerates,
    "embeddings": lambda: llm(
        CLIENTS["openai"].embeddings.create, model="text-embedding-3-small", input=["why", "not"]
    ),
}
STREAMED = [name for name in CALLS if name != "embeddings"]


@workflow
async def calls_one(name: str, stream: str | None) -> str:
    response = await (CALLS[name]() if stream is None else CALLS[name](emit=stream))
    SEEN.append(response)
    return str(type(response).__name__)


def without_numbers(response: Any) -> Any:
    """A copy without what differs between two answers to the same request."""
    copy = response.model_copy(deep=True)
    for name in ("id", "_request_id", "response_id", "sdk_http_response"):
        if getattr(copy, name, None) is not None:
            setattr(copy, name, None)
    for output in [*(getattr(copy, "output", None) or ()), *tool_calls(copy)]:
        output.id = ""
        if hasattr(output, "call_id"):
            output.call_id = ""
    return copy


def tool_calls(response: Any) -> list[Any]:
    if hasattr(response, "choices"):
        return [call for choice in response.choices for call in choice.message.tool_calls or ()]
    blocks = getattr(response, "content", None) or ()
    return [block for block in blocks if block.type == "tool_use"]


@pytest.mark.parametrize("name", list(CALLS))
def test_the_response_is_the_clients_own_live_and_replayed(name: str, provider: FakeLLM) -> None:
    place = Place()

    async def main() -> None:
        direct = await CALLS[name]()  # outside of runs the client is just called
        async with place.engine() as engine:
            handle = await engine.start(calls_one(name, None), id="r")
            assert await handle.result() == type(direct).__name__
            assert (await handle.usage()).calls == 1
        again = await replayed(place)
        live = SEEN[0]
        assert again is not live
        assert type(again) is type(live) is type(direct)
        assert again == live
        assert repr(again) == repr(live)
        assert getattr(again, "_request_id", None) == getattr(live, "_request_id", None)
        assert without_numbers(live) == without_numbers(direct)
        assert repr(without_numbers(live)) == repr(without_numbers(direct))

    run(main)
    assert len(provider.billed) == 2


async def replayed(place: Place) -> Any:
    """Let the code come by there once more, in a fork that takes over all that was recorded."""
    async with place.engine() as engine:
        await (await engine.get("r").fork()).result()
    return SEEN[-1]
