"""Requests of workflow code as steps: answered, turned down first, streamed, two at once."""

import asyncio
import json
from pathlib import Path

import httpx2

import perdure
from perdure.ai import durable_http

PAID, BUSY = Path("paid"), Path("busy")


def model(request: httpx2.Request) -> httpx2.Response:
    """A model that is busy the first time it is asked about b."""
    asked = json.loads(request.content)
    if asked["input"] == "b" and not BUSY.exists():
        BUSY.touch()
        return httpx2.Response(500, json={"error": {"message": "busy"}})
    with PAID.open("a") as file:
        file.write(f"{asked['input']}\n")
    answer = {
        "model": "m",
        "output": asked["input"].upper(),
        "usage": {"input_tokens": 3, "output_tokens": 4},
    }
    if not asked.get("stream"):
        return httpx2.Response(200, json=answer)
    events = [{"type": "response.output_text.delta", "delta": answer["output"]}]
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in [*events, {"response": answer}])
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=text)


DURABLE = durable_http(["model"], emit="text", retry=perdure.Retry(initial=0.001, jitter=False))
CLIENT = httpx2.AsyncClient(transport=DURABLE.transport(httpx2.MockTransport(model)), base_url="http://model")


async def ask(what: str) -> str:
    response = await CLIENT.post("/v1/responses", json={"model": "m", "input": what, "max_output_tokens": 9})
    return str(response.json()["output"])


async def streams(what: str) -> str:
    body = {"model": "m", "input": what, "max_output_tokens": 9, "stream": True}
    async with CLIENT.stream("POST", "/v1/responses", json=body) as response:
        lines = [line async for line in response.aiter_lines() if line]
    return str(json.loads(lines[0].removeprefix("data: "))["delta"])


@perdure.workflow
async def talk() -> list[str]:
    first = await ask("a")
    return [first, *await asyncio.gather(ask("b"), streams("c")), await ask("d")]


async def main() -> None:
    async with perdure.Engine("sqlite:///unmodified.db") as engine:
        handle = await engine.start(talk(), id="r")
        print(await handle.result())
        used = await handle.usage()
        paid = len(PAID.read_text().splitlines())
        assert (used.calls, used.calls_in_flight) == (4, 0), used
        assert paid <= used.calls + used.unknown_calls, (paid, used)


asyncio.run(main())
