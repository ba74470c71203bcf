"""Steps in doubt and steps whose attempts are used up, decided by a person; heartbeats; another database."""

import asyncio
import contextlib

import apsw

import perdure


@perdure.step(once=True)
async def asks_the_bank(cents: int) -> str:
    raise perdure.OutcomeUnknown("the bank didn't answer")


@perdure.step(retry=perdure.Retry(max_attempts=2, initial=0.001, on_exhausted="block"))
async def needs_mending(number: int) -> int:
    perdure.heartbeat({"number": number})
    raise ValueError("broken")


def open_shop() -> apsw.Connection:
    shop = apsw.Connection("shop.db")
    shop.execute("CREATE TABLE IF NOT EXISTS sold (item TEXT)")
    return shop


@perdure.step(transaction=open_shop)
def sells(shop: apsw.Connection, item: str) -> str:
    shop.execute("INSERT INTO sold VALUES (?)", (item,))
    return f"sold {item}"


@perdure.workflow
async def order() -> list[str]:
    paid, mended, sold = await asyncio.gather(asks_the_bank(100), mends(), sells("book"))
    return [paid, mended, sold, await sells("pen")]


async def mends() -> str:
    try:
        return str(await needs_mending(1))
    except perdure.StepFailed as error:
        return f"gave up: {error}"


async def main() -> None:
    async with perdure.Engine("sqlite:///decisions.db") as engine:
        handle = await engine.start(order(), id="order")
        while not (await handle.status()).final:
            for wait in (await handle.info()).waiting_for:
                with contextlib.suppress(perdure.NothingToDecideError):  # decided before the last death
                    if wait.kind == "decision" and "bank" in wait.id:
                        await handle.resolve(wait.id, result="paid 100", by="ann")
                    elif wait.kind == "decision":
                        await handle.resolve(wait.id, fail="can't be mended")
            await asyncio.sleep(0.01)
        print(await handle.result())
    print(sorted(item for (item,) in open_shop().execute("SELECT item FROM sold")))


asyncio.run(main())
