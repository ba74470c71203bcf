"""Background responses and batches: begun once, recorded, and waited for by whoever drives the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import Ledger, Mortal, Place, bury, crash, of_kind, until
from llm_kit import CLIENTS, QUICK, SEEN, provider, run

import perdure
from perdure import Engine, Status, events, workflow
from perdure.ai import BatchItemFailed, batch, llm
from perdure.errors import UsageError
from perdure.testing import fake_llm
from perdure.testing.fake_llm import FakeLLM

__all__ = ["provider"]

ask = llm.with_options(retry=QUICK, every=0.02)


@workflow
async def waits_in_the_background(client: str) -> str:
    response = await ask(CLIENTS[client].responses.create, model="gpt-5", input="why", background=True)
    SEEN.append(response)
    text: str = response.output_text
    return text


@workflow
async def waits_long() -> str:
    create = CLIENTS["aopenai"].responses.create
    response = await llm.with_options(every=1000)(create, model="gpt-5", input="why", background=True)
    text: str = response.output_text
    return text


@pytest.mark.parametrize("client", ["openai", "aopenai"])
def test_a_background_response_is_waited_for(client: str, place: Place, provider: FakeLLM) -> None:
    provider.jobs_take(0.1)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_in_the_background(client), id="r")
            assert (await handle.result()).startswith("why, since")
            usage = await handle.usage()
            assert (usage.calls, usage.unknown_calls, usage.calls_in_flight) == (1, 0, 0)
            assert usage.cost > 0
            steps = [event.step for event in await of_kind(handle, events.StepCompleted)]
            assert steps[0] == "llm:gpt-5#1"
            assert set(steps[1:]) == {f"llm:gpt-5:look#{number}" for number in range(1, len(steps))}
        assert SEEN[0].status == "completed"

    run(main)
    assert len(provider.billed) == 1
    assert provider.looks >= 1


def test_after_a_crash_the_same_response_is_waited_for(place: Place, provider: FakeLLM) -> None:
    provider.jobs_take(0.0)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_long(), id="r")

            async def begun() -> bool:
                return bool(await of_kind(handle, events.StepCompleted))

            await until(begun)
            await crash(engine)
        assert provider.looks == 0
        place.ahead = 1001.0
        async with place.engine() as engine:
            assert (await engine.get("r").result(timeout=60)).startswith("why, since")

    run(main)
    assert len(provider.billed) == 1


def test_when_the_code_is_cancelled_so_is_the_response(place: Place, provider: FakeLLM) -> None:
    provider.jobs_take(3600.0)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(waits_in_the_background("aopenai"), id="r")

            async def looked() -> bool:
                return provider.looks > 1

            await until(looked)
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            (last,) = [
                event.step for event in await of_kind(handle, events.StepCompleted) if "cancel" in event.step
            ]
            assert last.startswith("llm:gpt-5:cancel")
        id = SEEN[0].id if SEEN else provider.calls[0]
        assert id is not None

    run(main)
    assert provider.cancelled == 1


def test_what_cannot_be_is_refused(provider: FakeLLM) -> None:
    @workflow
    async def streams_in_the_background() -> None:
        await llm(
            CLIENTS["openai"].responses.create, model="gpt-5", input="x", background=True, emit="tokens"
        )

    async def main() -> None:
        async with Place().engine() as engine:
            with pytest.raises(perdure.RunFailed, match="can't be streamed"):
                await engine.run(streams_in_the_background())
        with pytest.raises(UsageError, match="in workflow code only"):
            await batch(CLIENTS["openai"].responses.create, [{}])

    run(main)


# -- batches ----------------------------------------------------------------------------------------------

TEXTS = [f"text {number}" for number in range(60)]


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


BATCHES: dict[str, Callable[[str], tuple[Any, dict[str, Any]]]] = {
    "messages": lambda text: (
        CLIENTS["anthropic"].messages.create,
        {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": say(text)},
    ),
    "messages, async": lambda text: (
        CLIENTS["aanthropic"].messages.create,
        {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": say(text)},
    ),
    "chat": lambda text: (
        CLIENTS["openai"].chat.completions.create,
        {"model": "gpt-5", "messages": say(text)},
    ),
    "responses, async": lambda text: (
        CLIENTS["aopenai"].responses.create,
        {"model": "gpt-5", "input": text},
    ),
    "embeddings": lambda text: (
        CLIENTS["openai"].embeddings.create,
        {"model": "text-embedding-3-small", "input": text},
    ),
}


@workflow
async def asks_in_a_batch(name: str, texts: list[str]) -> int:
    asked = [BATCHES[name](text) for text in texts]
    found = await batch(asked[0][0], [arguments for _, arguments in asked], every=0.02)
    SEEN.append(found)
    return len(found)


def text_of(response: Any) -> str:
    if hasattr(response, "output_text"):
        return str(response.output_text)
    if hasattr(response, "choices"):
        return str(response.choices[0].message.content)
    return str(response.content[0].text)


@pytest.mark.parametrize("name", list(BATCHES))
def test_a_batch_gives_the_responses_in_the_order_of_its_requests(name: str, provider: FakeLLM) -> None:
    place = Place()
    provider.jobs_take(0.1)

    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(asks_in_a_batch(name, TEXTS), id="r")
            assert await handle.result() == 60
            usage = await handle.usage()
            assert (usage.calls, usage.unknown_calls) == (60, 0)
            (line,) = await engine.usage("model")
            alone = (
                await BATCHES[name](TEXTS[0])[0](**BATCHES[name](TEXTS[0])[1]) if "async" in name else None
            )
            forked = await handle.fork()
            await forked.result()
        live, again = SEEN
        assert live == again
        assert [type(each) for each in live] == [type(each) for each in again]
        if name != "embeddings":
            assert all(text_of(each).startswith(text + ",") for each, text in zip(live, TEXTS, strict=True))
        if alone is not None:
            assert type(alone) is type(live[0])
        assert line.usage.cost > 0

    run(main)
    assert len(provider.billed) - ("async" in name) == 60


def fails(prompt: fake_llm.Prompt) -> str:
    if prompt.last == "text 1":
        raise ValueError("no")
    return "yes"


@pytest.mark.parametrize("name", ["messages", "chat"])
def test_requests_that_fail_leave_their_place_to_the_failure(name: str) -> None:
    place = Place()

    async def main() -> None:
        async with place.engine() as engine:
            await engine.run(asks_in_a_batch(name, TEXTS[:3]))
        found = SEEN[-1]
        assert [isinstance(each, BatchItemFailed) for each in found] == [False, True, False]
        assert found[1].kind == "errored"
        assert "ValueError('no')" in found[1].message

    from llm_kit import running

    with running(fails):
        run(main)


async def goes_on_after_death(place: Place, name: str, dies_at: int, commits: bool) -> bool:
    """Let an engine die at its n-th append, and another one go on. Returns whether it came so far."""
    id = f"r-{dies_at}-{commits}"
    engine = place.engine(lambda inner: Mortal(inner, dies_at, commits, Ledger()))
    await engine.__aenter__()
    mortal: Any = engine._store
    drive = asyncio.ensure_future(_drives(engine, name, id))
    death = asyncio.ensure_future(mortal.dead.wait())
    await asyncio.wait({drive, death}, return_when=asyncio.FIRST_COMPLETED)
    died = bool(mortal.dead.is_set())
    for task in (drive, death):
        task.cancel()
    with suppress(asyncio.CancelledError, perdure.PerdureError):
        await drive
    await crash(engine)
    await bury(place)
    async with place.engine() as engine:
        assert await _drives(engine, name, id) == 3
    return died


async def _drives(engine: Engine, name: str, id: str) -> Any:
    return await (await engine.start(asks_in_a_batch(name, TEXTS[:3]), id=id)).result()


@pytest.mark.parametrize("name", ["messages, async", "chat"])
def test_a_batch_outlives_a_death_at_any_append(name: str, provider: FakeLLM) -> None:
    async def main() -> None:
        for dies_at in range(1, 9):
            for commits in (False, True):
                before = len(provider.billed)
                died = await goes_on_after_death(Place(), name, dies_at, commits)
                made = (len(provider.billed) - before) // 3
                # Anthropic's batches bear no mark: if its id wasn't recorded, nobody knows the batch again.
                assert made == 1 or (made == 2 and name.startswith("messages") and not commits), dies_at
            if not died:
                break
        assert dies_at > 3

    run(main)


def test_a_cancelled_batch_is_cancelled_at_the_provider(provider: FakeLLM) -> None:
    provider.jobs_take(3600.0)

    async def main() -> None:
        async with Place().engine() as engine:
            handle = await engine.start(asks_in_a_batch("messages, async", TEXTS[:2]), id="r")

            async def looked() -> bool:
                return provider.looks > 1

            await until(looked)
            await handle.cancel()
            with pytest.raises(perdure.RunCancelled):
                await handle.result()
            assert await handle.status() is Status.CANCELLED

    run(main)
    assert provider.cancelled == 1
