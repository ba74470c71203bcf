"""Calls through litellm, where it is installed: it is large, so the tests' own environment does without it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Place

from perdure import workflow
from perdure.ai import llm
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

litellm = pytest.importorskip("litellm", reason="litellm isn't installed")
pytestmark = pytest.mark.filterwarnings("default")  # it has many

SAID: Any = [{"role": "user", "content": "why"}]
URLS: list[str] = []
SEEN: list[Any] = []


@workflow
async def asks_litellm() -> str:
    reach: Any = {"api_base": URLS[-1], "api_key": "secret-77", "model": "openai/gpt-5", "messages": SAID}
    first = await llm(litellm.acompletion, max_tokens=50, **reach)
    second = await llm(litellm.completion, emit="tokens", **reach)
    SEEN.append((first, second))
    text: str = second.choices[0].message.content
    return text


def test_litellms_responses_are_its_own() -> None:
    place = Place()

    async def main() -> None:
        with FakeLLM() as provider:
            URLS.append(provider.openai_url)
            provider.script(fake_llm.server_error(), fake_llm.rate_limited(0.05))
            async with place.engine() as engine:
                handle = await engine.start(asks_litellm(), id="r")
                text = await handle.result()
                assert "".join([item.value async for item in handle.stream("tokens")]) == text
                assert (await handle.usage()).calls == 2
                assert "secret-77" not in str([event async for event in handle.history()])
                await (await handle.fork()).result()
            assert (len(provider.calls), len(provider.billed)) == (4, 2)
        assert SEEN[0] == SEEN[1]
        assert [type(each) for each in SEEN[1]] == [litellm.ModelResponse] * 2

    asyncio.run(main())
