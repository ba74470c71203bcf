"""`if_exists="restart"`: an ended run begins anew under its id."""

from __future__ import annotations

import asyncio

import pytest
from engine_kit import Place, run

import perdure
from perdure import RunConflictError, step, workflow

KEYS: list[str] = []


@step
async def keeps_key() -> int:
    KEYS.append(perdure.idempotency_key())
    return len(KEYS)


@workflow
async def once_more(word: str) -> str:
    return f"{word} {await keeps_key()}"


@workflow
async def lasts() -> None:
    await asyncio.sleep(1000)


def test_an_ended_run_begins_anew(place: Place) -> None:
    async def main() -> None:
        KEYS.clear()
        async with place.engine() as engine:
            assert await engine.run(once_more("a"), id="r", if_exists="restart") == "a 1"
            assert await engine.run(once_more("a"), id="r") == "a 1"
            assert await engine.run(once_more("b"), id="r", if_exists="restart") == "b 2"
            handle = engine.get("r")
            assert (await handle.info()).generation == 2
            assert (await handle.info(generation=1)).status == "completed"
            assert await engine.run(once_more("b"), id="r") == "b 2"
            with pytest.raises(RunConflictError, match="other input"):
                await engine.start(once_more("a"), id="r")
        assert len(set(KEYS)) == 2

    run(main)


def test_a_live_run_isnt_restarted(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            handle = await engine.start(lasts(), id="r")
            with pytest.raises(RunConflictError, match="can't be restarted: it is"):
                await engine.start(lasts(), id="r", if_exists="restart")
            await handle.terminate()
            await engine.start(lasts(), id="r", if_exists="restart")
            assert not (await handle.status()).final
            assert (await handle.info()).generation == 2

    run(main)


def test_many_are_restarted_and_one_of_two_who_restart_wins(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            ids = ["a", "b"]
            await engine.start_many([once_more("x"), once_more("y")], ids=ids)
            for id in ids:
                await engine.get(id).result()
            handles = await engine.start_many(
                [once_more("x"), once_more("y"), once_more("z")], ids=[*ids, "c"], if_exists="restart"
            )
            assert [(await handle.result())[:1] for handle in handles] == ["x", "y", "z"]
            assert [(await handle.info()).generation for handle in handles] == [2, 2, 1]
            await engine.get("a").result()
            tries = [engine.start(lasts(), id="a", if_exists="restart") for _ in range(5)]
            answers = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(answer, RunConflictError) for answer in answers) == 4

    run(main)
