"""A run that is terminated amid a step which is waited for: it undoes what it did, and so does its child."""

import asyncio
import contextlib

import perdure
from perdure import Saga


@perdure.step
async def books(what: str) -> str:
    return what


@perdure.step(retry=perdure.Retry(initial=0.001))
async def cancels(what: str) -> None:
    if perdure.step_info().attempt == 1:
        raise OSError("not now")


@perdure.step(on_cancel="wait")
async def pays(cents: int) -> int:
    await asyncio.sleep(0.15)
    return cents


@perdure.workflow
async def insures(trip: str) -> None:
    async with Saga() as saga:
        saga.undo(cancels("insurance"))
        await books("insurance")
        await asyncio.sleep(3600)


@perdure.workflow
async def travels(trip: str) -> None:
    async with Saga() as saga, asyncio.TaskGroup() as group:
        saga.undo(cancels("hotel"))
        await books("hotel")
        group.create_task(insures(trip))
        group.create_task(pays(100))
        await asyncio.sleep(3600)


async def main() -> None:
    async with perdure.Engine("sqlite:///cancelling.db") as engine:
        trip = await engine.start(travels("rome"), id="trip")
        while not (await trip.status()).final:
            runs = [trip, *[engine.get(info.id) async for info in engine.runs(workflow="insures")]]
            if len(runs) == 2 and all([(await run.info()).waiting_for for run in runs]):
                with contextlib.suppress(perdure.RunConflictError):
                    await trip.terminate("no time", compensate=True)
                break
            await asyncio.sleep(0.01)
        async for info in engine.runs():
            while not (status := await engine.get(info.id).status()).final:
                await asyncio.sleep(0.01)
            print(info.workflow, status)


asyncio.run(main())
