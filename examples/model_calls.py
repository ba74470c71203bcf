"""Calls of a language model that are paid once: an agent is interrupted, goes on, and gets another prompt.

    pip install 'perdure[ai]' anthropic
    python examples/model_calls.py

It needs no key and no network: a fake provider on this machine answers, and counts what it would have billed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile

import anthropic

import perdure
from perdure.ai import llm
from perdure.testing.fake_llm import FakeLLM

MODEL = "claude-haiku-4-5"
TOPICS = ["moss", "lichen", "tardigrades", "springtails"]


def client() -> anthropic.AsyncAnthropic:
    """The ordinary client. With a real key, leave out the arguments."""
    url = os.environ["PROVIDER"]  # noqa: PDR008 - no history holds it
    return anthropic.AsyncAnthropic(base_url=url, api_key="no key is needed here")


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@perdure.workflow
async def research(topics: list[str]) -> str:
    async with client() as model:
        notes: list[str] = []
        for topic in topics:
            message = await llm(
                model.messages.create,
                key=topic,
                model=MODEL,
                max_tokens=200,
                messages=[{"role": "user", "content": f"What is worth knowing about {topic}?"}],
            )
            notes.append(text_of(message))
            perdure.emit("progress", topic)
        report = await llm(
            model.messages.create,
            key="report",
            emit="report",  # its text can be read while it is written
            model=MODEL,
            max_tokens=800,
            messages=[{"role": "user", "content": "Write a report of: " + "; ".join(notes)}],
        )
    return text_of(report)


async def main(url: str, provider: FakeLLM) -> None:
    async with perdure.Engine(url) as engine:
        handle = await engine.start(research(TOPICS), id="r-1")
        async for item in handle.stream("progress"):
            if item.offset == 3:
                print(f"interrupted when {item.value} was done")
                break
    async with perdure.Engine(url) as engine:
        handle = engine.get("r-1")
        await handle.result()
        streamed = [item.value async for item in handle.stream("report")]
        print(
            f"done: the provider has billed {len(provider.billed)} calls, the report came in {len(streamed)} pieces"
        )

        before = len(provider.billed)
        question = {
            "model": MODEL,
            "max_tokens": 200,
            "messages": [{"role": "user", "content": "And of mites?"}],
        }
        forked = await handle.fork(edits={f"llm:{MODEL}[lichen]": perdure.Args(question)})
        await forked.result()
        print(
            f"another question in its place: {len(provider.billed) - before} calls, the others were there already"
        )
        usage = await handle.usage()
        print(f"the first run: {usage.calls} calls, {usage.total_tokens} tokens, {usage.cost} USD")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, FakeLLM(latency=0.05) as fake:
        os.environ["PROVIDER"] = fake.url
        asyncio.run(main(f"sqlite:///{folder}/research.db", fake))
