"""A file that is moved away, deleted or replaced under those who work with it: they write no more, and say why.

What they wrote would be seen by nobody, and after a restore by the wrong ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure import Engine, errors, receive, step, workflow
from perdure.runtime import health

BODIES: Counter[int] = Counter()


@step
async def act(number: int) -> int:
    BODIES[number] += 1
    return number


@workflow
async def acts(count: int) -> int:
    total = 0
    for number in range(count):
        total += await act(number)
        if number == 0:
            await receive("go")
    return total


def beside(path: Path) -> list[Path]:
    """The database's files."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]


def move(path: Path, to: Path) -> None:
    for old, new in zip(beside(path), beside(to), strict=True):
        if old.exists():
            old.rename(new)


def delete(path: Path, _: Path) -> None:
    for file in beside(path):
        file.unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def fresh() -> None:
    BODIES.clear()


@pytest.mark.parametrize("gone", [move, delete])
def test_nothing_is_written_to_a_file_that_nobody_sees(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, gone: Callable[[Path, Path], None]
) -> None:
    path, away = tmp_path / "runs.db", tmp_path / "away.db"

    async def life() -> None:
        async with Engine(f"sqlite:///{path}", grace=0.1, lease=0.5) as engine, asyncio.timeout(60):
            await engine.start(acts(5), id="r")
            while not BODIES[0]:
                await asyncio.sleep(0.01)
            gone(path, away)
            for verb in (
                engine.start(acts(1), id="new"),
                engine.get("r").send("go", 1),
                engine.get("r").info(),
            ):
                with pytest.raises(
                    errors.DatabaseMovedError, match=r"runs\.db was moved away, deleted or replaced"
                ):
                    await verb
            found = await engine.health()
            assert not found.live
            assert found.reasons[0] == "the database doesn't answer"
            assert "moved away or replaced" in found.reasons[1]
            while "couldn't keep the lease" not in caplog.text:
                await asyncio.sleep(0.01)
            assert not path.exists(), "nobody makes a new one, either"
            if gone is move:
                move(away, path)
                while not (await engine.health()).ready:
                    await asyncio.sleep(0.05)
                await engine.get("r").send("go", 1)
                assert await engine.get("r").result() == 10

    with caplog.at_level(logging.WARNING, "perdure"):
        asyncio.run(life())
    if gone is move:
        assert set(BODIES.values()) == {1}


def test_a_step_whose_outcome_finds_another_file_isnt_recorded_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one is an older picture of the same database, whose run is at the same place."""
    path, away, copy = tmp_path / "runs.db", tmp_path / "away.db", tmp_path / "copy.db"

    async def life() -> None:
        from perdure.storage.sqlite.backup import copy_file

        async with Engine(f"sqlite:///{path}", grace=0.1) as engine, asyncio.timeout(60):
            await engine.start(acts(2), id="r")
            while (await engine.get("r").info()).status != "waiting":
                await asyncio.sleep(0.01)
            await asyncio.to_thread(copy_file, path, copy)
            before = [event async for event in engine.get("r").history()]
            move(path, away)
            copy.rename(path)
            with pytest.raises(errors.DatabaseMovedError):
                await engine.get("r").send("go", 1)
            async with Engine(f"sqlite:///{path}", worker=False) as other:
                assert [event async for event in other.get("r").history()] == before

    asyncio.run(life())
    assert BODIES == {0: 1}


def test_it_counts_as_hanging() -> None:
    class Store:
        async def crowd(self) -> int:
            raise errors.DatabaseMovedError("gone")

    async def look() -> health.Health:
        return await health.Examiner(Store(), asyncio.get_running_loop(), file=True).examine(None)

    assert not asyncio.run(look()).live
