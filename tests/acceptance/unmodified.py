"""The program that the acceptance tests of durable_http attack: agents with their providers' clients as they are.

python unmodified.py URL PROVIDER
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import anthropic
import openai
from google import genai

import perdure
import perdure.ai

PROVIDER = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:9"
#: Neither of them may be found on the disk.
KEYS = ("sk-proj-unmodified-0123456789", "sk-ant-unmodified-0123456789", "AIza-unmodified-0123456789")
#: Calls that a run makes.
CALLS = 6

gpt = openai.AsyncOpenAI(base_url=f"{PROVIDER}/v1", api_key=KEYS[0])
claude = anthropic.AsyncAnthropic(base_url=PROVIDER, api_key=KEYS[1])
gemini = genai.Client(api_key=KEYS[2], http_options={"base_url": PROVIDER})
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


async def weather(question: str) -> str:
    """A loop with tools: two calls."""
    messages: Any = [{"role": "user", "content": question}]
    while True:
        answer = await gpt.chat.completions.create(model="gpt-5", messages=messages, tools=[TOOL])
        message = answer.choices[0].message
        if not message.tool_calls:
            return str(message.content)
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            city = json.loads(call.function.arguments)["city"]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"sunny in {city}"})


async def streams(question: str) -> str:
    said: Any = [{"role": "user", "content": question}]
    async with claude.messages.stream(model="claude-haiku-4-5", max_tokens=50, messages=said) as stream:
        first = "".join([text async for text in stream.text_stream])
    pieces = await gpt.responses.create(model="gpt-5", input=first, stream=True)
    return "".join([event.delta async for event in pieces if event.type == "response.output_text.delta"])


async def summary(question: str) -> str:
    first = await gemini.aio.models.generate_content(model="gemini-2.5-flash", contents=question)
    parts = await gemini.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=first.text)
    return "".join([part.text or "" async for part in parts])


@perdure.workflow
async def agent(city: str) -> list[str]:
    found = await weather(f"weather of {city}")
    return [found, *await asyncio.gather(streams(f"{city}: {found}"), summary(f"{city}: {found}"))]


async def serve() -> None:
    with perdure.ai.durable_http(["127.0.0.1"], count_streams=True, emit="tokens"):
        async with perdure.Engine(sys.argv[1]):
            print("ready", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
