"""Callbacks that are completed, failed, kept alive and timed out, by somebody who may die with the run."""

import asyncio
from pathlib import Path

import perdure


@perdure.step
async def hand_out(name: str, token: str) -> None:
    Path(f"token-{name}").write_text(token)


@perdure.workflow
async def child(token: str) -> str:
    await hand_out("fails", token)
    return "told"


@perdure.workflow
async def waits() -> list[str]:
    good, bad = perdure.callback(str, timeout=3600, heartbeat=1800), perdure.callback()
    _, told = await asyncio.gather(hand_out("completes", good.token), child(bad.token))
    late = perdure.callback(timeout=0.01)
    seen = [told, await good]
    try:
        await bad
    except perdure.CallbackFailed as error:
        seen.append(str(error))
    try:
        await late
    except TimeoutError:
        seen.append("timed out")
    return seen


async def answers(engine: perdure.Engine, name: str) -> None:
    """As somebody outside would: again and again, until it is done."""
    path = Path(f"token-{name}")
    while not path.exists() or len(path.read_text()) < 46:
        await asyncio.sleep(0.001)
    token = path.read_text()
    try:
        await engine.callbacks.heartbeat(token)
        if name == "completes":
            await engine.callbacks.complete(token, "done")
        else:
            await engine.callbacks.fail(token, "no")
    except (perdure.CallbackCompletedError, perdure.CallbackExpiredError):
        pass  # in a former life


async def main() -> None:
    async with perdure.Engine("sqlite:///callbacks.db") as engine:
        handle = await engine.start(waits(), id="waits")
        await asyncio.gather(answers(engine, "completes"), answers(engine, "fails"))
        print(await handle.result())


asyncio.run(main())
