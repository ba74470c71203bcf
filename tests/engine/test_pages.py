"""Lists of runs are turned over page by page, in bounded work whatever a filter matches."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from engine_kit import Place

from perdure import Engine, workflow
from perdure.api import listing


@workflow(name="pages.fine")
async def fine(n: int) -> int:
    return n


@workflow(name="pages.broken")
async def broken(n: int) -> int:
    raise ValueError(f"no number {n}")


async def _all(engine: Engine, **asked: Any) -> tuple[list[str], int]:
    """The ids on all pages, and how many pages there were."""
    ids: list[str] = []
    cursor, pages = None, 0
    while True:
        page = await engine.runs_page(**asked, cursor=cursor)
        ids += [run.id for run in page.runs]
        cursor, pages = page.next, pages + 1
        if cursor is None:
            return ids, pages


def test_what_matches_little_is_found_over_pages_that_each_look_at_a_few(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        monkeypatch.setattr(listing, "DEPTH", 10)
        monkeypatch.setattr(listing, "DEPTH_OF_ATTRIBUTES", 5)
        monkeypatch.setattr(listing, "FEW", 2)
        async with place.engine() as engine:
            for n in range(34):
                call = broken(n) if n in (3, 30) else fine(n)
                handle = await engine.start(call, id=f"r{n}", attributes={"even": n % 2 == 0, "n": n})
                try:
                    await handle.result()
                except Exception:
                    assert n in (3, 30)
            assert await _all(engine, status="failed") == (["r30", "r3"], 1)  # an index knows
            assert await _all(engine, status="terminated") == ([], 1)
            assert await _all(engine, text="nowhere") == ([], 4)
            assert await _all(engine, workflow="broken", size=1) == (["r30", "r3"], 4)
            assert await _all(engine, attributes={"n": 3}) == (["r3"], 1)  # an index knows
            assert await _all(engine, attributes={"even": True, "n": 3}) == ([], 1)
            ids, _ = await _all(engine, attributes={"even": True, "n": ("!=", 4)}, size=2)
            assert ids == [f"r{n}" for n in range(32, -1, -2) if n != 4]
            assert (await _all(engine, size=7))[0] == [f"r{n}" for n in range(33, -1, -1)]
            assert {"pages.broken", "pages.fine"} <= set(await engine.workflows())

    asyncio.run(main())


def test_pages_tell_how_many_match(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(listing, "COUNTED", 8)
        async with place.engine(worker=False) as engine:
            for n in range(12):
                await engine.start(fine(n), id=f"r{n}", attributes={"n": n})

            async def total(**asked: Any) -> tuple[int | None, bool]:
                page = await engine.runs_page(**asked, size=3, count=True)
                return page.total, page.more

            assert await total() == (8, True)
            assert await total(text="r1") == (3, False)
            assert await total(text="x") == (0, False)
            assert await total(attributes={"n": ("<", 8)}) == (8, False)
            assert await total(attributes={"n": ("<", 9)}) == (8, True)
            monkeypatch.setattr(listing, "DEPTH", 6)
            assert await total(text="r11") == (1, True)  # there may be more further back
            assert (await engine.runs_page(size=3)).total is None

    asyncio.run(main())


def test_runs_of_a_time(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as engine:
            for n in range(3):
                await engine.start(fine(n), id=f"r{n}")
            moment = (await engine.get("r1").info()).created_at
            page = await engine.runs_page(until=moment)
            assert [run.id for run in page.runs] == ["r0"]
            assert [run.id async for run in engine.runs(since=moment)] == ["r2", "r1"]
            assert [run.id async for run in engine.runs(since=moment, until=moment)] == []
            later = datetime.now(UTC) + timedelta(days=1)
            assert len([run async for run in engine.runs(until=later)]) == 3

    asyncio.run(main())
