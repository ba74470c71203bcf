"""An agent written with the clients of OpenAI, Anthropic and Google as their makers show it, made durable by one line.

    pip install 'perdure[ai]' openai anthropic google-genai
    python examples/unmodified_sdks.py

Nothing below `the program` knows of Perdure. It is killed in the middle, and started again: answers that were paid for
aren't asked for once more. Offline: a fake provider speaks the wire formats of all three.
"""

# Google's client mentions types of Pillow, which needn't be installed.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anthropic
import openai
from google import genai

import perdure
import perdure.ai
from perdure.testing.fake_llm import FakeLLM, Prompt, Reply, Tool

# -- the program: clients, and loops around them ----------------------------------------------------------

PROVIDER = os.environ.get("PROVIDER", "")
gpt = openai.AsyncOpenAI(base_url=f"{PROVIDER}/v1", api_key="sk-example")
claude = anthropic.AsyncAnthropic(base_url=PROVIDER, api_key="sk-ant-example")
gemini = genai.Client(api_key="example", http_options={"base_url": PROVIDER})

POPULATIONS = {"Oslo": 717_710, "Rome": 2_746_984, "Lima": 10_092_000}
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "population",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def look_up(city: str) -> str:
    """A loop of questions and tools."""
    messages: Any = [{"role": "user", "content": f"How many people live in {city}?"}]
    while True:
        answer = await gpt.chat.completions.create(model="gpt-5", messages=messages, tools=[TOOL])
        message = answer.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            function: Any = call
            city = json.loads(function.function.arguments)["city"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": str(POPULATIONS[city])})


async def summarise(facts: list[str]) -> str:
    """A stream."""
    async with claude.messages.stream(
        model="claude-haiku-4-5", max_tokens=500, messages=[{"role": "user", "content": "\n".join(facts)}]
    ) as stream:
        return "".join([text async for text in stream.text_stream])


async def agent(cities: list[str]) -> str:
    facts = [await look_up(city) for city in cities]
    summary = await summarise(facts)
    headline = await gemini.aio.models.generate_content(model="gemini-2.5-flash", contents=summary)
    return f"{headline.text}\n{summary}"


# -- what makes it durable ----------------------------------------------------------------------------------


@perdure.workflow
async def durable_agent(cities: list[str]) -> str:
    return await agent(cities)


def run_agent() -> None:
    with perdure.ai.durable_http(hosts=["127.0.0.1"]):  # without hosts: those of the real providers
        print(perdure.run(durable_agent(list(POPULATIONS)), url="sqlite:///agent.db", id="cities"))


# -- the stage: a provider, and a program that is killed -------------------------------------------------------


def answers(prompt: Prompt) -> Reply | str:
    """What the fake model says."""
    if prompt.last.startswith("How many people live in "):
        city = prompt.last.removeprefix("How many people live in ").rstrip("?")
        return Reply(tools=(Tool("population", {"city": city}),))
    return (
        f"{prompt.last} souls" if prompt.last.isdigit() else f"{prompt.model} on {len(prompt.text)} letters"
    )


def start(folder: str, provider: FakeLLM) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PROVIDER": provider.url}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "agent"], cwd=folder, env=environment
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, FakeLLM(answers, latency=0.05) as provider:
        first = start(folder, provider)
        while len(provider.billed) < 4:  # the fourth of eight calls is on its way
            time.sleep(0.002)
        first.kill()
        first.wait()
        print(f"killed; calls that were paid for: {len(provider.billed)}")
        assert start(folder, provider).wait() == 0
        second = len(provider.billed)
        print(
            f"done;   calls that were paid for: {second}, 8 and what was on its way when the program was killed"
        )
        assert start(folder, provider).wait() == 0
        print(f"again;  calls that were paid for: {len(provider.billed)}")
        assert len(provider.billed) == second <= 9


if __name__ == "__main__":
    run_agent() if sys.argv[1:] == ["agent"] else main()
