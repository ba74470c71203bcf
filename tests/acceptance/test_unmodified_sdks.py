"""Programs with unmodified clients of OpenAI, Anthropic and Google, killed again and again: nobody pays twice."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest
from world import HERE, SOAK, Process, World, until

from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool, rate_limited

unmodified = pytest.importorskip("unmodified", reason="the clients aren't installed")

pytestmark = pytest.mark.acceptance

RUNS, KILLS = (20, 10) if SOAK else (4, 3)


def answers(prompt: Prompt) -> Reply | str:
    if prompt.last.startswith("weather of "):
        return Reply(tools=(Tool("weather", {"city": prompt.last.removeprefix("weather of ")}),))
    return f"{prompt.model} has heard {len(prompt.text)} letters"


def test_whoever_is_killed_only_calls_in_flight_are_paid_for_twice(
    world: World, figure: Callable[[str], None]
) -> None:
    def start_worker(provider: str) -> Process:
        worker = world.start(sys.executable, str(HERE / "unmodified.py"), world.url, provider)
        worker.wait_ready()
        return worker

    async def scenario() -> None:
        total = RUNS * unmodified.CALLS
        with FakeLLM(answers, latency=0.3) as llm:
            llm.script(None, rate_limited(0.2), None, None, rate_limited(0.1))
            workers = [start_worker(llm.url) for _ in range(2)]
            async with world.client() as client:
                handles = await client.start_many(
                    [unmodified.agent(f"city {number}") for number in range(RUNS)]
                )
                for number in range(KILLS):
                    share = total * (number + 1) // (KILLS + 1)
                    await until(lambda share=share: reached(llm, share))
                    workers.pop(0).kill()
                    workers.append(start_worker(llm.url))
                async with asyncio.timeout(180):
                    said = [await handle.result() for handle in handles]
                paid = len(llm.billed)
                ((whole,), texts) = await client.usage(), [each[0] for each in said]
                assert all("has heard" in text for text in texts)
                assert whole.usage.calls == total
                extra = paid - total
                assert 0 <= extra <= whole.usage.unknown_calls <= KILLS * RUNS * 2
                figure(
                    f"{total} calls of three clients, {KILLS} kills: {extra} paid for twice, as they were in flight"
                )
                again = [
                    await client.run(unmodified.agent(f"city {n}"), id=h.id) for n, h in enumerate(handles)
                ]
                assert again == said
                forks = [await (await handle.fork()).result() for handle in handles]
                assert forks == said
                assert len(llm.billed) == paid  # a second time the provider hears nothing
            for worker in workers:
                worker.kill()
        files = b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
        assert b"llm:gpt-5" in files
        assert not any(key.encode() in files for key in unmodified.KEYS)

    asyncio.run(scenario())


async def reached(llm: FakeLLM, count: int) -> bool:
    return len(llm.billed) >= count
