"""A worker that stops: its last steps end there, and everything else goes on elsewhere at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from engine_kit import Place, of_kind, run, says, sets_clock_ahead, until

import perdure
from perdure import Engine, events, step, workflow

BODIES: Counter[str] = Counter()
GATES: dict[str, asyncio.Event] = {}


@step
async def waits_at(gate: str) -> str:
    BODIES[gate] += 1
    await GATES[gate].wait()
    return gate


@workflow
async def passes(*gates: str) -> list[str]:
    return [await waits_at(gate) for gate in gates]


@workflow
async def listens() -> str:
    word = await perdure.receive("word", str)
    return await says(word)


def fresh(*gates: str) -> None:
    BODIES.clear()
    for gate in gates:
        GATES[gate] = asyncio.Event()


async def state_of(client: Engine, name: str) -> str | None:
    return next((worker.state for worker in await client.workers() if worker.name == name), None)


def test_a_worker_keeps_its_lease_while_its_last_step_ends(place: Place) -> None:
    """Else others would take the run over, and the step would be executed twice at the same time."""

    async def main() -> None:
        fresh("g")
        lease = 0.6
        async with place.engine(name="survivor") as survivor:
            leaving = place.engine(name="leaving", lease=lease, grace=60)
            await leaving.__aenter__()
            handle = await leaving.start(passes("g"), id="a")
            await until(lambda: BODIES["g"] == 1)
            closing = asyncio.ensure_future(leaving.close())
            while await state_of(survivor, "leaving") != "stopping":
                assert not closing.done()
                await asyncio.sleep(0.01)
            enough = time.time() + 3 * lease
            while (
                next(w.lease_until for w in await survivor.workers() if w.name == "leaving").timestamp()
                < enough
            ):
                await asyncio.sleep(0.01)
            assert BODIES["g"] == 1
            GATES["g"].set()
            await closing
            handle = survivor.get("a")
            assert await handle.result() == ["g"]
            assert await of_kind(handle, events.RunRecovered) == []
        assert BODIES == {"g": 1}

    run(main)


def test_what_does_not_execute_goes_on_elsewhere_before_the_last_step_has_ended(place: Place) -> None:
    async def main() -> None:
        fresh("long", "short", "next")
        leaving = place.engine(grace=60)
        await leaving.__aenter__()
        await leaving.start(passes("long"), id="long")
        await leaving.start(passes("short", "next"), id="two")
        await leaving.start(listens(), id="listens")
        await until(lambda: BODIES["long"] == BODIES["short"] == 1)
        async with place.engine() as survivor:
            closing = asyncio.ensure_future(leaving.close())
            await survivor.get("listens").send("word", "hello")
            assert await survivor.get("listens").result(timeout=30) == "hello"
            GATES["short"].set()  # its last step there has ended: the next one begins elsewhere
            await until(lambda: BODIES["next"] == 1)
            GATES["next"].set()
            assert await survivor.get("two").result(timeout=30) == ["short", "next"]
            assert not closing.done()
            GATES["long"].set()
            await closing
            assert await survivor.get("long").result(timeout=30) == ["long"]
            for id in ("long", "two", "listens"):
                assert await of_kind(survivor.get(id), events.RunRecovered) == []
        assert BODIES == {"long": 1, "short": 1, "next": 1}

    run(main)


@step(retry=perdure.Retry(max_attempts=5, initial=0.05, backoff=1.0))
async def fails_first(name: str) -> str:
    BODIES[name] += 1
    if BODIES[name] == 1:
        raise ConnectionError(name)
    return name


@workflow
async def tries_again_beside(gate: str) -> list[str]:
    return list(await asyncio.gather(waits_at(gate), fails_first("again")))


def test_an_attempt_in_line_isnt_forgotten_when_the_clock_is_set_back(place: Place) -> None:
    """Its alarm has rung already, so nothing but the attempt that wasn't begun tells that there is something to do."""

    async def main() -> None:
        fresh("g")
        leaving, set_back = place.engine(grace=60), asyncio.Event()
        sets_clock_ahead(leaving, lambda: -60 if set_back.is_set() else 0)
        await leaving.__aenter__()
        await leaving.start(tries_again_beside("g"), id="a")
        await until(lambda: BODIES["again"] == 1 and BODIES["g"] == 1)
        closing = asyncio.ensure_future(leaving.close())
        await asyncio.sleep(0.3)  # the second attempt is due meanwhile, and isn't begun
        assert BODIES["again"] == 1
        set_back.set()
        GATES["g"].set()
        await closing
        async with place.engine() as engine:
            assert await engine.get("a").result() == ["g", "again"]

    run(main)
