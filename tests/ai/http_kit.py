"""What the tests of durable_http share: a provider, the clients of an unchanged program, and engines."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import perdure
from perdure import Engine, Handle
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

PATIENCE = float(os.environ.get("PERDURE_TEST_PATIENCE", "60"))

OPENAI_KEY = "sk-proj-openai-0123456789abcdef"
ANTHROPIC_KEY = "sk-ant-0123456789abcdef"
GOOGLE_KEY = "AIza0123456789abcdef"


#: What `run` closes: a client belongs to its event loop.
OPEN: list[Clients] = []


class Clients:
    """The clients of a program, made as any program makes them, and never closed by it."""

    def __init__(self, llm: FakeLLM, **options: Any) -> None:
        import anthropic
        import openai
        from google import genai

        self.openai = openai.AsyncOpenAI(base_url=llm.openai_url, api_key=OPENAI_KEY, **options)
        self.anthropic = anthropic.AsyncAnthropic(base_url=llm.url, api_key=ANTHROPIC_KEY, **options)
        self.google = genai.Client(api_key=GOOGLE_KEY, http_options={"base_url": llm.url})
        OPEN.append(self)

    async def close(self) -> None:
        OPEN.remove(self)
        await self.openai.close()
        await self.anthropic.close()
        await self.google.aio.aclose()


class World:
    """A database and a provider."""

    def __init__(self, path: Path, llm: FakeLLM) -> None:
        self.path = path
        self.llm = llm

    def engine(self, **options: Any) -> Engine:
        return Engine(f"sqlite:///{self.path}", **options)

    @property
    def hits(self) -> int:
        """How many requests the provider has seen."""
        return len(self.llm.calls)

    def files(self) -> bytes:
        """All that is on the disk."""
        return b"".join(each.read_bytes() for each in sorted(self.path.parent.glob(f"{self.path.name}*")))


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    async def and_close() -> None:
        try:
            await asyncio.wait_for(main(), PATIENCE * 2)
        finally:
            for clients in list(OPEN):
                await clients.close()

    asyncio.run(and_close())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.02)


async def of_kind(handle: Handle[Any], kind: type[Any]) -> list[Any]:
    return [event async for event in handle.history() if isinstance(event, kind)]


async def step_ids(handle: Handle[Any]) -> list[str]:
    return [event.step for event in await of_kind(handle, perdure.events.StepCompleted)]


def with_tools(prompt: Prompt) -> Reply | str:
    """A model that asks for the weather once, and then says what it was told."""
    offered = prompt.body.get("tools") or prompt.api == "generate"
    if offered and prompt.last.startswith("weather of"):
        return Reply("", tools=(Tool("weather", {"city": prompt.last.removeprefix("weather of ")}),))
    return f"{prompt.model} has heard: {prompt.last}"
