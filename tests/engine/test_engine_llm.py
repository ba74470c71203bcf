"""`perdure.ai.llm`: responses of the real clients, whole and streamed, are theirs, live and replayed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Place, of_kind
from llm_kit import (
    CALLS,
    CLIENTS,
    SEEN,
    STREAMED,
    anthropic,
    calls_one,
    provider,
    replayed,
    run,
    without_numbers,
)

from perdure import events, workflow
from perdure.ai import llm, pieces
from perdure.errors import UsageError
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

httpx2 = pytest.importorskip("httpx2", reason="what the client of Anthropic speaks HTTP with isn't installed")

__all__ = ["provider"]


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


# -- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STREAMED)
def test_a_streamed_response_is_the_same_and_its_text_is_emitted(name: str, provider: FakeLLM) -> None:
    place = Place()

    async def main() -> None:
        whole = await CALLS[name]()
        streamed = await CALLS[name](emit="tokens")  # outside of runs, too
        if "google" not in name:
            assert without_numbers(streamed) == without_numbers(whole)
        async with place.engine() as engine:
            handle = await engine.start(calls_one(name, "tokens"), id="r")
            await handle.result()
            pieces = [item.value async for item in handle.stream("tokens")]
            usage = await handle.usage()
        assert len(pieces) > 2
        assert "".join(pieces).endswith("since they are small and slow")
        assert (usage.calls, usage.cached_tokens) == (1, 3)
        streamed = SEEN[0]
        if "google" in name:  # there the pieces themselves are a little different
            assert streamed.text == whole.text
            assert streamed.candidates[0].finish_reason == whole.candidates[0].finish_reason
            assert streamed.usage_metadata == whole.usage_metadata
        else:
            assert without_numbers(streamed) == without_numbers(whole)
        assert await replayed(place) == SEEN[0]

    run(main)
    assert len(provider.billed) == 3


WEATHER: Any = [{"role": "user", "content": "the weather in Basel"}]


@workflow
async def asks_for_tools(emit: str | None) -> None:
    clients = CLIENTS
    more: Any = {} if emit is None else {"emit": emit}
    SEEN.append(
        await llm(clients["aopenai"].chat.completions.create, model="gpt-5", messages=WEATHER, **more)
    )
    SEEN.append(await llm(clients["aopenai"].responses.create, model="gpt-5", input="weather", **more))
    create = clients["aanthropic"].messages.create
    SEEN.append(await llm(create, model="claude-haiku-4-5", max_tokens=50, messages=WEATHER, **more))
    generate = clients["google"].aio.models.generate_content
    SEEN.append(await llm(generate, model="gemini-2.5-flash", contents="weather", **more))


def test_calls_of_tools_come_through_streams(provider: FakeLLM) -> None:
    place = Place()

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(asks_for_tools(None))
            await engine.run(asks_for_tools("tokens"))
        whole, streamed = SEEN[:4], SEEN[4:]
        assert without_numbers(streamed[0]) == without_numbers(whole[0])
        assert len(streamed[0].choices[0].message.tool_calls) == 2
        assert without_numbers(streamed[1]) == without_numbers(whole[1])
        assert without_numbers(streamed[2]) == without_numbers(whole[2])
        assert streamed[2].content[1].input == {"city": "Basel"}
        assert streamed[3].function_calls == whole[3].function_calls
        assert len(streamed[3].function_calls) == 2

    run(main)


def test_a_stream_that_breaks_off_is_superseded(place: Place, provider: FakeLLM) -> None:
    provider.script(fake_llm.cut(4))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(calls_one("messages, async", "tokens"), id="r")
            await handle.result()
            everything = [item async for item in handle.stream("tokens", superseded=True)]
            counting = [item.value async for item in handle.stream("tokens")]
            assert "superseded" in {item.kind for item in everything}
            assert "".join(counting) == SEEN[0].content[0].text
            usage = await handle.usage()
            assert (usage.calls, usage.unknown_calls) == (1, 1)  # the first one may be billed, and here it is

    run(main)
    assert len(provider.billed) == 2


def test_a_stream_that_tells_of_an_error_is_tried_again(provider: FakeLLM, monkeypatch: Any) -> None:
    """Anthropic's client takes an error within a stream for one with status 200."""
    take, failed = pieces._Messages.take, []

    def takes(self: Any, piece: Any) -> str:
        if not failed:
            failed.append(piece)
            request = httpx2.Request("POST", "http://127.0.0.1")
            body = {"type": "error", "error": {"type": "api_error", "message": "Internal server error"}}
            raise anthropic.APIStatusError("no", response=httpx2.Response(200, request=request), body=body)
        return take(self, piece)

    monkeypatch.setattr(pieces._Messages, "take", takes)

    async def main() -> None:
        async with Place().engine() as engine:
            handle = await engine.start(calls_one("messages, async", "tokens"), id="r")
            await handle.result()
            (attempt,) = await of_kind(handle, events.StepAttemptFailed)
            assert "broke off its stream" in str(attempt.failure)

    run(main)
    assert len(provider.billed) == 2


def test_only_chats_are_streamed_as_chats(provider: FakeLLM) -> None:
    with pytest.raises(UsageError, match="can't be streamed"):
        asyncio.run(llm(CLIENTS["openai"].completions.create, model="old", prompt="why", emit="tokens"))
