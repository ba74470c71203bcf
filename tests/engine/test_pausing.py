"""Paused runs begin nothing, lose nothing, and go on from where they were held."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from engine_kit import (
    Ledger,
    Mortal,
    Place,
    Places,
    bury,
    crash,
    history,
    of_kind,
    reaches,
    recorded,
    run,
    says,
    until,
)

import perdure
from perdure import Engine, RunConflictError, events, step, workflow

GATES: dict[str, asyncio.Event] = {}
BEGUN: list[str] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    GATES.clear()
    BEGUN.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


@step
async def waits_for(name: str) -> str:
    BEGUN.append(name)
    await gate(name).wait()
    return name


@workflow
async def in_two_steps() -> list[str]:
    return [await waits_for("a"), await waits_for("b")]


@workflow
async def side_by_side() -> list[str]:
    async def branch(first: str, second: str) -> str:
        return await waits_for(first) + await waits_for(second)

    return list(await asyncio.gather(branch("a", "b"), branch("c", "d")))


@workflow
async def naps(seconds: float = 0.01) -> str:
    await asyncio.sleep(seconds)
    return await says("awake")


@workflow
async def listens() -> list[int]:
    return [await perdure.receive("n", int) for _ in range(3)]


def test_a_step_that_executes_ends_and_nothing_begins_after_it(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(in_two_steps(), id="r")
            await until(lambda: BEGUN == ["a"])
            await handle.pause("look")
            await has_event(handle, events.RunPaused)
            assert not (await handle.status()).final
            gate("a").set()
            gate("b").set()
            await reaches(handle, "paused")
            assert (await handle.info()).reason == "look"
            assert len(await recorded(handle)) == 1
            assert BEGUN == ["a"]
            assert engine._worker is not None
            await until(lambda: not engine._worker.drivers)  # type: ignore[union-attr]
            await handle.resume()
            assert await handle.result() == ["a", "b"]
            kinds = [type(event) for event in await history(handle)]
            assert kinds.index(events.RunPaused) < kinds.index(events.RunResumed)

    run(main)


async def has_event(handle: perdure.Handle[Any], kind: Any) -> None:
    async def there() -> bool:
        return bool(await of_kind(handle, kind))

    await until(there)


def test_resuming_while_a_step_still_executes_goes_on_at_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(side_by_side(), id="r")
            await until(lambda: BEGUN == ["a", "c"])
            await handle.pause()
            await has_event(handle, events.RunPaused)
            gate("a").set()
            await until(lambda: recorded_count(handle, 1))
            assert BEGUN == ["a", "c"]
            await handle.resume()
            await until(lambda: "b" in BEGUN)  # while c goes on
            for name in "bcd":
                gate(name).set()
            assert await handle.result() == ["ab", "cd"]
            assert len(await recorded(handle)) == 4

    run(main)


async def recorded_count(handle: perdure.Handle[Any], count: int) -> bool:
    return len(await recorded(handle)) == count


def test_timers_wait_for_the_end_of_the_pause(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(naps(3600), id="r")
            await handle.pause()
            await reaches(handle, "paused")
        place.ahead += 3600
        async with place.engine() as engine:
            handle = engine.get("r")
            await engine.run(naps(), id="other")
            assert await of_kind(handle, events.TimerFired) == []
            await handle.resume()
            assert await handle.result() == "awake"

    run(main)


def test_a_run_that_nobody_drives_is_paused_at_once(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as client:
            handle = await client.start(naps(), id="r")
            await handle.pause("not yet")
            info = await handle.info()
            assert (info.status, info.reason) == ("paused", "not yet")
        async with place.engine() as engine:
            await engine.run(naps(), id="other")
            assert await engine.get("r").status() == "paused"
            await engine.get("r").resume()
            assert await engine.get("r").result() == "awake"

    run(main)


def test_messages_queue(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(listens(), id="r")
            await handle.send("n", 1)
            await has_event(handle, events.MessageReceived)
            await handle.pause()
            await handle.send("n", 2)
            await handle.send("n", 3)
            await reaches(handle, "paused")
            await handle.resume()
            assert await handle.result() == [1, 2, 3]

    run(main)


def test_cancelling_lets_it_go_on(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(listens(), id="r")
            await handle.pause()
            await reaches(handle, "paused")
            await handle.cancel("enough")
            with pytest.raises(perdure.RunCancelled, match="enough"):
                await handle.result()
            handle = await engine.start(in_two_steps(), id="executing")
            await until(lambda: BEGUN == ["a"])
            await handle.pause()
            await has_event(handle, events.RunPaused)
            await handle.cancel("enough")
            with pytest.raises(perdure.RunCancelled, match="enough"):
                await handle.result()

    run(main)


def test_terminating_ends_a_paused_run(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(listens(), id="r")
            await handle.pause()
            await reaches(handle, "paused")
            await handle.terminate()
            with pytest.raises(perdure.RunTerminated):
                await handle.result()

    run(main)


def test_ended_and_unknown_runs_cant_be_paused(memory: Place) -> None:
    async def main() -> None:
        async with memory.engine() as engine:
            await engine.run(naps(), id="r")
            with pytest.raises(RunConflictError, match="can't be paused: it has ended"):
                await engine.get("r").pause()
            with pytest.raises(RunConflictError, match="can't be resumed: it has ended"):
                await engine.get("r").resume()
            with pytest.raises(perdure.UnknownRunError):
                await engine.get("nobody").pause()

    run(main)


def test_pausing_and_resuming_twice_change_nothing(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(listens(), id="r")
            await handle.resume()
            for _ in range(2):
                await handle.pause()
            await reaches(handle, "paused")
            for _ in range(2):
                await handle.resume()
            for number in (1, 2, 3):
                await handle.send("n", number)
            assert await handle.result() == [1, 2, 3]
            assert len(await of_kind(handle, events.RunPaused, events.RunResumed)) == 2

    run(main)


def test_a_pause_survives_the_engine(place: Place) -> None:
    async def main() -> None:
        async with place.engine(grace=0.0) as engine:
            handle = await engine.start(in_two_steps(), id="r")
            await until(lambda: BEGUN == ["a"])
            await handle.pause()
            await has_event(handle, events.RunPaused)
        gate("a").set()
        gate("b").set()
        async with place.engine() as engine:
            assert await engine.get("r").status() == "paused"
            await engine.get("r").resume()
            assert await engine.get("r").result() == ["a", "b"]

    run(main)


# -- crashes ------------------------------------------------------------------------------------------


@workflow
async def long() -> list[str]:
    found = [await says("a")]
    await asyncio.sleep(0.002)
    return [*found, *await asyncio.gather(says("b"), says("c")), str(await perdure.receive("n", int))]


async def paused_and_resumed(engine: Engine) -> list[str]:
    """Held and let go again a few times; whatever was done before a crash is done again."""
    handle = await engine.start(long(), id="a")
    with suppress(RunConflictError, perdure.RunEndedError):
        await handle.pause("look")
        await handle.send("n", 7, key="k")
        await reaches(handle, "paused", "completed")
        await handle.resume()
    result = await handle.result()
    assert len(await recorded(handle)) == 3
    return result


@pytest.mark.parametrize("commits", [False, True], ids=["lost", "unacknowledged"])
def test_a_crash_at_any_append_of_a_paused_run_changes_nothing(commits: bool, make_place: Places) -> None:
    async def main() -> None:
        number, died = 0, True
        while died:
            number += make_place.stride
            place = make_place()
            engine = place.engine(lambda store, at=number: Mortal(store, at, commits, Ledger()))
            await engine.__aenter__()
            store: Any = engine._store
            driving = asyncio.ensure_future(paused_and_resumed(engine))
            dying = asyncio.ensure_future(store.dead.wait())
            await asyncio.wait([driving, dying], return_when=asyncio.FIRST_COMPLETED)
            died = store.dead.is_set()
            driving.cancel()
            dying.cancel()
            with suppress(asyncio.CancelledError, perdure.PerdureError):
                await driving
            await crash(engine)
            await bury(place)
            async with place.engine() as engine:
                assert await paused_and_resumed(engine) == ["a", "b", "c", "7"], f"died at append {number}"
        assert number > 3

    run(main)
