"""Synchronous clients in workflow code: by call_sync their requests are durable steps, else they are refused."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from http_kit import ANTHROPIC_KEY, GOOGLE_KEY, OPENAI_KEY, World, of_kind, run, step_ids, until

import perdure
from perdure import Retry, Status, events
from perdure.ai import call_sync, durable_http
from perdure.testing import fake_llm

HELD: dict[str, Any] = {}
SAID: Any = [{"role": "user", "content": "why"}]


def make(world: World) -> None:
    HELD["openai"] = openai.OpenAI(base_url=world.llm.openai_url, api_key=OPENAI_KEY)
    HELD["anthropic"] = anthropic.Anthropic(base_url=world.llm.url, api_key=ANTHROPIC_KEY)
    HELD["google"] = genai.Client(api_key=GOOGLE_KEY, http_options={"base_url": world.llm.url})


def agent(question: str) -> list[str]:
    """An ordinary synchronous program."""
    said: Any = [{"role": "user", "content": question}]
    answer = HELD["openai"].chat.completions.create(model="gpt-5", messages=said)
    pieces = HELD["openai"].responses.create(model="gpt-5", input=question, stream=True)
    text = "".join(event.delta for event in pieces if event.type == "response.output_text.delta")
    message = HELD["anthropic"].messages.create(model="claude-haiku-4-5", max_tokens=9, messages=said)
    with HELD["anthropic"].messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=said) as stream:
        streamed = "".join(stream.text_stream)
    content = HELD["google"].models.generate_content(model="gemini-2.5-flash", contents=question)
    parts = HELD["google"].models.generate_content_stream(model="gemini-2.5-flash", contents=question)
    return [
        f"{answer.choices[0].message.content} {answer.id}",
        text,
        f"{message.content[0].text} {message.id}",
        streamed,
        f"{content.text} {content.response_id}",
        "".join(part.text or "" for part in parts),
    ]


@perdure.workflow
async def asks(question: str) -> list[str]:
    return await call_sync(agent, question)


@perdure.workflow
async def asks_at_once(count: int) -> list[list[str]]:
    return list(await asyncio.gather(*(call_sync(agent, f"question {number}") for number in range(count))))


def test_a_synchronous_program_is_durable(world: World) -> None:
    make(world)

    async def main() -> None:
        async with world.engine() as engine:
            said = await engine.run(asks("why"), id="r")
            assert world.hits == 6
            assert await (await engine.get("r").fork()).result() == said
            both = await engine.run(asks_at_once(3), id="m")
            assert world.hits == 24
            assert await (await engine.get("m").fork()).result() == both
            assert world.hits == 24
            assert len(set(await step_ids(engine.get("m")))) == 18
            (total,) = await engine.usage()
            assert total.usage.calls == 24
            texts = "".join([item.value async for item in engine.get("r").stream("tokens")])
            assert texts == said[1] + said[3] + said[5]

    with durable_http(["127.0.0.1"], count_streams=True, emit="tokens"):
        run(main)
    assert agent("why")[1] == "gpt-5 has heard: why"  # outside of runs all is as ever


def test_it_waits_in_the_middle_and_leaves_memory(world: World) -> None:
    make(world)
    world.llm.script(None, fake_llm.rate_limited(3600))

    async def main() -> None:
        async with world.engine(evict_after=0.05) as engine:
            handle = await engine.start(asks("why"), id="r")

            async def gone() -> bool:
                return bool(await of_kind(handle, events.StepDelayed)) and not engine._worker.drivers

            await until(gone)
        later = world.engine()
        object.__setattr__(later._settings, "clock", lambda: time.time() + 4000)
        async with later as engine:
            assert len(await engine.get("r").result()) == 6
        assert world.hits == 7

    with durable_http(["127.0.0.1"]):
        run(main)


def failing() -> str:
    try:
        HELD["openai"].chat.completions.create(model="gpt-5", messages=SAID)
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error}"
    return "well"


@perdure.workflow
async def fails() -> str:
    return await call_sync(failing)


def test_errors_are_the_clients_own(world: World) -> None:
    make(world)
    world.llm.script(fake_llm.bad_request())

    async def main() -> None:
        async with world.engine() as engine:
            assert (await engine.run(fails(), id="r")).startswith("BadRequestError 400")
            assert world.hits == 1
            world.llm.stop()
            said = await engine.run(fails(), id="s")  # a client that sleeps must not try again
            assert said.startswith("InternalServerError 504")
            assert "ConnectError" in said

    with durable_http(["127.0.0.1"], retry=Retry(max_attempts=1)):
        run(main)


@perdure.workflow
async def asks_without() -> str:
    return failing()


def test_without_it_they_are_refused(world: World) -> None:
    make(world)

    async def main() -> None:
        async with world.engine() as engine:
            with pytest.raises(perdure.RunFailed, match=r"perdure\.ai\.call_sync"):
                await engine.run(asks_without(), id="r")
        assert world.hits == 0

    with durable_http(["127.0.0.1"]):
        run(main)


def hangs() -> str:
    try:
        return failing()
    finally:
        HELD["left"] = HELD.get("left", 0) + 1


@perdure.workflow
async def waits_in_vain() -> str:
    return await call_sync(hangs)


def test_a_cancellation_ends_it(world: World) -> None:
    make(world)
    world.llm.script(fake_llm.rate_limited(3600))

    async def main() -> None:
        async with world.engine() as engine:
            handle = await engine.start(waits_in_vain(), id="r")

            async def parked() -> bool:
                return bool(await of_kind(handle, events.StepDelayed))

            await until(parked)
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert await handle.status() is Status.CANCELLED
            assert HELD.pop("left") == 1

    with durable_http(["127.0.0.1"]):
        run(main)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_client_may_be_given_the_transport(world: World, library: Any) -> None:
    pytest.importorskip(library)

    async def main() -> None:
        make(world)
        HELD["openai"] = openai.OpenAI(
            base_url=world.llm.openai_url,
            api_key=OPENAI_KEY,
            http_client=durable_http(["127.0.0.1"]).client(library=library),
        )
        async with world.engine() as engine:
            assert await engine.run(fails(), id="r") == "well"
            assert await (await engine.get("r").fork()).result() == "well"
        assert world.hits == 1

    run(main)


def test_outside_of_runs_it_just_calls() -> None:
    assert asyncio.run(call_sync(max, 3, 5)) == 5
