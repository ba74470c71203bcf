"""Calls of language models are tried again by their steps alone, never by the clients themselves."""

from __future__ import annotations

import pytest
from engine_kit import Place, of_kind, until
from llm_kit import CALLS, CLIENTS, QUICK, SAID, ask, calls_one, genai, messages, provider, run

import perdure
from perdure import events, step, workflow
from perdure.ai import no_retries
from perdure.errors import ConfigurationError, UsageError
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

__all__ = ["provider"]


@pytest.mark.parametrize("name", [name for name in CALLS if "async" in name] + ["chat", "embeddings"])
def test_the_client_does_not_retry_and_the_step_does(name: str, provider: FakeLLM) -> None:
    place = Place()
    provider.script(fake_llm.server_error(), fake_llm.lost())

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(calls_one(name, None), id="r")
            await handle.result()
            failed = await of_kind(handle, events.StepAttemptFailed)
            assert len(failed) == 2

    run(main)
    assert len(provider.calls) == 3
    assert len(provider.hits) == 1  # all of them with the step's idempotency key
    assert set(provider.hits.values()) == {2}  # an answer got lost: no provider knows it again


@pytest.mark.parametrize("name", ["chat, async", "responses", "messages, async", "google, async", "google"])
def test_a_provider_that_turns_calls_away_parks_the_run(name: str, provider: FakeLLM) -> None:
    place = Place()
    provider.script(fake_llm.rate_limited(0.01), fake_llm.overloaded(0.01))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(calls_one(name, None), id="r")
            await handle.result()
            assert len(await of_kind(handle, events.StepDelayed)) == 2
            assert not await of_kind(handle, events.StepAttemptFailed)  # these are no attempts

    run(main)
    assert (len(provider.calls), len(provider.billed)) == (3, 1)


def test_a_long_rate_limit_outlives_the_process(place: Place, provider: FakeLLM) -> None:
    provider.script(
        fake_llm.rate_limited(3600)
    )  # with its own retries, Anthropic's client would sleep an hour

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(calls_one("messages, async", None), id="r")

            async def parked() -> bool:
                return bool(await of_kind(handle, events.StepDelayed))

            await until(parked)
        place.ahead = 3700.0
        async with place.engine() as engine:
            await engine.get("r").result(timeout=60)

    run(main)
    assert (len(provider.calls), len(provider.billed)) == (2, 1)


@step(retry=QUICK)
async def asks_itself(client: str) -> str:
    message = await messages(client)
    text: str = message.content[0].text
    return text


@step(retry=QUICK)
async def asks_with_a_client_without_retries(client: str) -> str:
    quiet = no_retries(CLIENTS[client])
    assert quiet.max_retries == 0
    assert CLIENTS[client].max_retries == 2
    message = await quiet.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=SAID)
    perdure.record_usage(message)
    text: str = message.content[0].text
    return text


@workflow
async def asks_in_steps(client: str) -> list[str]:
    return [await asks_itself(client), await asks_with_a_client_without_retries("aanthropic")]


@pytest.mark.parametrize("client", ["anthropic", "aanthropic"])
def test_in_a_step_it_is_a_part_of_that_step(client: str, place: Place, provider: FakeLLM) -> None:
    provider.script(fake_llm.server_error(), None, fake_llm.rate_limited(0.01))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_in_steps(client), id="r")
            first, second = await handle.result()
            assert first == second
            assert len(await of_kind(handle, events.StepAttemptFailed)) == 1
            assert len(await of_kind(handle, events.StepDelayed)) == 1
            assert (await handle.usage()).calls == 2

    run(main)
    assert (len(provider.calls), len(provider.billed)) == (4, 2)


def test_clients_that_cannot_do_without_retries_are_told_of(provider: FakeLLM) -> None:
    assert no_retries(CLIENTS["google"]) is CLIENTS["google"]
    with genai.Client(api_key="any", http_options={"retry_options": {"attempts": 3}}) as client:
        with pytest.raises(ConfigurationError, match="made with retry_options"):
            no_retries(client)
    with pytest.raises(UsageError, match="knows the clients of"):
        no_retries(object())


@workflow
async def asks_google_that_retries() -> None:
    generate = CLIENTS["retrying"].models.generate_content
    await ask(generate, model="gemini-2.5-flash", contents="why")


def test_googles_retries_are_off_in_llm(provider: FakeLLM) -> None:
    options = {"retry_options": {"attempts": 3, "initial_delay": 0.001}, "base_url": provider.url}
    CLIENTS["retrying"] = genai.Client(api_key="any", http_options=options)
    place = Place()
    provider.script(fake_llm.server_error(), fake_llm.server_error())

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_google_that_retries(), id="r")
            await handle.result()
            assert len(await of_kind(handle, events.StepAttemptFailed)) == 2

    run(main)
    CLIENTS.pop("retrying").close()
