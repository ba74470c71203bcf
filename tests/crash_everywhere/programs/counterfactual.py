"""A fork with another prompt, which acts on nobody: children, messages, events, stubs, and a step that is refused."""

import asyncio
from contextlib import suppress
from pathlib import Path

import perdure
from perdure import Args, Engine

SENT = Path("sent")


@perdure.step(effect="read")
async def asks(prompt: str) -> str:
    perdure.record_usage(model="m", input_tokens=10, cost="0.01")
    return prompt.upper()


@perdure.step
async def mails(text: str) -> str:
    with SENT.open("a") as file:
        file.write(f"{text}\n")
    return f"sent {text}"


@perdure.step(stub=lambda amount: f"would pay {amount}")
async def pays(amount: int) -> str:
    with SENT.open("a") as file:
        file.write(f"{amount}\n")
    return f"paid {amount}"


@perdure.workflow
async def chapter(prompt: str) -> str:
    return await mails(await asks(prompt))


@perdure.workflow
async def hears() -> str:
    return await perdure.receive("word", str)


@perdure.workflow
async def report(prompt: str) -> list[str]:
    told = await asyncio.gather(chapter("always"), chapter(prompt))
    await perdure.send("listener", "word", prompt)
    perdure.publish("written", prompt)
    return [*told, await pays(len(prompt)), await asks("end")]


async def main() -> None:
    async with Engine("sqlite:///runs.db") as engine:
        listener = await engine.start(hears(), id="listener")
        handle = await engine.start(report("bees"), id="r")
        print(await handle.result())
        print(await listener.result())
        before = sorted(set(SENT.read_text().splitlines()))
        fork = await handle.fork(input=Args("wasps"), effects="reuse", stubs={"mails": "stub"}, id="stubbed")
        print(await fork.result())
        refused = await handle.fork(input=Args("ants"), effects="reuse", id="refused")
        child = engine.get(f"refused/{chapter.name}#2")
        while not (await refused.status()).final:
            with suppress(perdure.UnknownRunError, perdure.NothingToDecideError, perdure.RunEndedError):
                await child.resolve("mails", result="given")
            await asyncio.sleep(0.005)
        print(await refused.result())
        assert sorted(set(SENT.read_text().splitlines())) == before == ["4", "ALWAYS", "BEES"]
        assert (await fork.usage()).calls == 1


asyncio.run(main())
