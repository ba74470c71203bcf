"""A provider that takes no more parks the run until it does, with or without a declared limit."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_kit import Place, of_kind, run, until

import perdure
from perdure import Handle, Retry, Status, events, step, workflow
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

anthropic = pytest.importorskip("anthropic", reason="the client of Anthropic isn't installed")

LLM: list[FakeLLM] = []
SAID: Any = [{"role": "user", "content": "why"}]


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    with FakeLLM() as running, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        LLM.append(running)
        yield running


@step(retry=Retry(max_attempts=1))
async def asks(number: int) -> str:
    async with anthropic.AsyncAnthropic(base_url=LLM[-1].url, api_key="any", max_retries=0) as client:
        message = await client.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=SAID)
    return f"{number}: {message.content[0].text}"


@workflow
async def research() -> list[str]:
    return [await asks(1), *await asyncio.gather(asks(2), asks(3))]


async def waits_for_the_provider(handle: Handle[Any]) -> events.StepDelayed:
    """Wait until a run waits for its provider."""

    async def parked() -> bool:
        return await handle.status() is Status.WAITING and bool(await of_kind(handle, events.StepDelayed))

    await until(parked)
    return (await of_kind(handle, events.StepDelayed))[-1]


def test_a_rate_limit_is_no_attempt(place: Place, llm: FakeLLM) -> None:
    llm.script(fake_llm.rate_limited(0.01), fake_llm.overloaded(0.01), fake_llm.rate_limited(0.01))

    async def main() -> None:
        async with place.engine() as engine:
            assert len(await engine.run(research(), id="r")) == 3
            delays = await of_kind(engine.get("r"), events.StepDelayed)
            assert [delay.limit for delay in delays] == ["anthropic"] * 3
            assert (await engine.get("r").usage()).unknown_calls == 0

    run(main)
    assert (len(llm.billed), len(llm.calls)) == (3, 6)


def test_a_usage_cap_parks_the_run_until_its_date(place: Place, llm: FakeLLM) -> None:
    cap = (datetime.now(UTC) + timedelta(days=20)).replace(second=0, microsecond=0)
    llm.script(None, fake_llm.usage_cap(cap), fake_llm.usage_cap(cap))

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(research(), id="r")
            await waits_for_the_provider(handle)
            (limit,) = await engine.limits.list()
            assert (limit.name, limit.blocked_until) == ("anthropic", cap)
            assert "anthropic" in str(await handle.why())
        seen = len(llm.calls)
        assert seen <= 3
        place.ahead = 10 * 86_400.0
        async with place.engine() as engine:  # it looks again, and the cap still holds
            handle = engine.get("r")

            async def looked() -> bool:
                delays = await of_kind(handle, events.StepDelayed)
                return any(delay.at > datetime.now(UTC).timestamp() + 86_400 for delay in delays)

            await until(looked)
        assert len(llm.calls) == seen
        place.ahead = 20 * 86_400.0 + 60
        async with place.engine() as engine:
            assert len(await engine.get("r").result(timeout=60)) == 3

    run(main)
    assert len(llm.billed) == 3


@step
async def lets_go() -> None:
    """The next call is turned away."""
    LLM[-1].script(fake_llm.rate_limited(3600))


@workflow
async def one(number: int) -> str:
    return await asks(number)


def test_other_calls_of_the_provider_wait_too(place: Place, llm: FakeLLM) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(one(0))
            llm.script(fake_llm.rate_limited(3600))
            first = await engine.start(one(1), id="first")
            await waits_for_the_provider(first)
            second = await engine.start(one(2), id="second")
            await waits_for_the_provider(second)
            assert len(llm.calls) == 2  # the second one didn't ask
            await engine.limits.unblock("anthropic")
            await engine.limits.reset("anthropic")
        place.ahead = 1000.0
        async with place.engine() as engine:
            await engine.get("first").result(timeout=60)
            await engine.get("second").result(timeout=60)

    run(main)
    assert len(llm.billed) == 3


@step(retry=Retry(max_attempts=1, never=(anthropic.RateLimitError,)))
async def has_no_time() -> str:
    return str(await asks.function(1))


@workflow
async def hasty() -> str:
    try:
        return await has_no_time()
    except Exception as error:
        return perdure.failure(error).type


def test_a_policy_may_take_it_for_a_failure(place: Place, llm: FakeLLM) -> None:
    llm.script(fake_llm.rate_limited(0.01))

    async def main() -> None:
        async with place.engine() as engine:
            assert (await engine.run(hasty(), id="r")).endswith("RateLimitError")

    run(main)
