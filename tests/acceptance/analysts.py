"""The program that the acceptance tests of costs attack: agents that ask a provider about documents.

python analysts.py URL PROVIDER
"""

from __future__ import annotations

import asyncio
import json
import sys
from urllib.request import Request, urlopen

import perdure

PROVIDER = sys.argv[2] if len(sys.argv) > 2 else ""


@perdure.step(spends=perdure.Spend("gpt-5", input_tokens=100, output_tokens=100))
def analyse(document: str) -> str:
    body = {"model": "gpt-5", "messages": [{"role": "user", "content": document}]}
    headers = {"content-type": "application/json", "idempotency-key": perdure.idempotency_key()}
    request = Request(f"{PROVIDER}/v1/chat/completions", json.dumps(body).encode(), headers, method="POST")
    with urlopen(request, timeout=60) as answer:
        said = json.load(answer)
    usage = said["usage"]
    perdure.record_usage(
        model=said["model"], input_tokens=usage["prompt_tokens"], output_tokens=usage["completion_tokens"]
    )
    return str(said["choices"][0]["message"]["content"])


@perdure.workflow
async def research(topic: str, documents: int) -> list[str]:
    return [await analyse(f"{topic}, document {number}") for number in range(documents)]


async def serve() -> None:
    async with perdure.Engine(sys.argv[1]):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
