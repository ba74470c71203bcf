"""What tests of calls of language models share: the real clients, and a provider on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from engine_kit import Place
from engine_kit import run as run_bounded

from perdure import workflow
from perdure.ai import llm
from perdure.core.retry import DEFAULT_RETRY
from perdure.testing.fake_llm import Answer, FakeLLM, Prompt, Reply, Tool

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


@contextlib.contextmanager
def running(answer: Answer) -> Iterator[FakeLLM]:
    """A provider, and clients of it."""
    with FakeLLM(answer) as llm, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        SEEN.clear()
        options: Any = {"base_url": llm.url, "api_key": "secret-7"}
        CLIENTS["openai"] = openai.OpenAI(base_url=llm.openai_url, api_key="secret-7")
        CLIENTS["aopenai"] = openai.AsyncOpenAI(base_url=llm.openai_url, api_key="secret-7")
        CLIENTS["anthropic"] = anthropic.Anthropic(**options)
        CLIENTS["aanthropic"] = anthropic.AsyncAnthropic(**options)
        CLIENTS["google"] = genai.Client(api_key="secret-7", http_options={"base_url": llm.url})
        yield llm
        for name in ("openai", "anthropic", "google"):
            CLIENTS[name].close()


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test, and close the async clients in the same event loop."""

    async def closing() -> None:
        try:
            await main()
        finally:
            await CLIENTS["aopenai"].close()
            await CLIENTS["aanthropic"].close()
            await CLIENTS["google"].aio.aclose()

    run_bounded(closing)


@pytest.fixture
def provider() -> Iterator[FakeLLM]:
    with running(says) as llm:
        yield llm


#: With the policy that holds without any other, but quicker.
QUICK = dataclasses.replace(DEFAULT_RETRY, initial=0.01)
ask = llm.with_options(retry=QUICK)


def chat(client: str, **more: Any) -> Any:
    return ask(CLIENTS[client].chat.completions.create, model="gpt-5", messages=SAID, **more)


def responses(client: str, **more: Any) -> Any:
    return ask(CLIENTS[client].responses.create, model="gpt-5", input="why", **more)


def messages(client: str, **more: Any) -> Any:
    create = CLIENTS[client].messages.create
    return ask(create, model="claude-haiku-4-5", max_tokens=50, messages=SAID, **more)


def generates(**more: Any) -> Any:
    return ask(CLIENTS["google"].models.generate_content, model="gemini-2.5-flash", contents="why", **more)


def agenerates(**more: Any) -> Any:
    create = CLIENTS["google"].aio.models.generate_content
    return ask(create, model="gemini-2.5-flash", contents="why", **more)


CALLS: dict[str, Callable[..., Any]] = {
    "chat": lambda **more: chat("openai", **more),
    "chat, async": lambda **more: chat("aopenai", **more),
    "responses": lambda **more: responses("openai", **more),
    "responses, async": lambda **more: responses("aopenai", **more),
    "messages": lambda **more: messages("anthropic", **more),
    "messages, async": lambda **more: messages("aanthropic", **more),
    "google": generates,
    "google, async": agenerates,
    "embeddings": lambda: ask(
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


async def replayed(place: Place) -> Any:
    """Let the code come by there once more, in a fork that takes over all that was recorded."""
    async with place.engine() as engine:
        await (await engine.get("r").fork()).result()
    return SEEN[-1]
