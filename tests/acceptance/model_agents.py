"""The program that the acceptance test of `llm()` attacks: an agent with an unmodified client.

python model_agents.py URL PROVIDER
"""

from __future__ import annotations

import asyncio
import sys

import anthropic

import perdure
from perdure.ai import llm

PROVIDER = sys.argv[2] if len(sys.argv) > 2 else ""
client = anthropic.AsyncAnthropic(base_url=PROVIDER or "http://127.0.0.1:1", api_key="secret-key")


@perdure.workflow
async def agent(calls: int) -> list[str]:
    said: list[str] = []
    for number in range(calls):
        message = await llm(
            client.messages.create,
            model="claude-haiku-4-5",
            max_tokens=100,
            messages=[{"role": "user", "content": f"question {number} after {said[-1:]}"}],
            emit="tokens",
        )
        block = message.content[0]
        assert block.type == "text"
        said.append(block.text)
    return said


async def serve() -> None:
    async with perdure.Engine(sys.argv[1]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
