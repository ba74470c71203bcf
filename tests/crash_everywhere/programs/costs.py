"""Steps that spend, in workflow and child, one of them failing after it has paid; the books must balance."""

import asyncio
from pathlib import Path

import perdure

BODIES = Path("bodies")


def pay() -> None:
    with BODIES.open("a") as file:
        file.write("paid\n")
    perdure.record_usage(model="m", input_tokens=10, cost="0.01")


@perdure.step(spends=perdure.Spend(cost="0.01"))
async def asks(what: str) -> str:
    pay()
    return what


@perdure.step(spends=True, retry=perdure.Retry(initial=0.001))
def pays_in_vain_first(what: str) -> str:
    pay()
    if perdure.step_info().attempt < 2:
        raise ValueError("not JSON")
    return what


@perdure.workflow
async def child(what: str) -> str:
    return await asks(what)


@perdure.workflow
async def research() -> list[str]:
    return [await asks("a"), *await asyncio.gather(pays_in_vain_first("b"), child("c")), await asks("d")]


async def main() -> None:
    async with perdure.Engine("sqlite:///costs.db") as engine:
        handle = await engine.start(research(), id="r", key="acme")
        print(await handle.result())
        found = await handle.usage()
        paid = len(BODIES.read_text().splitlines())
        assert (found.calls, found.calls_in_flight) == (5, 0), found
        assert paid <= found.calls + found.unknown_calls, (paid, found)
        assert [line.name for line in await engine.usage("key")][:1] == ["acme"]


asyncio.run(main())
