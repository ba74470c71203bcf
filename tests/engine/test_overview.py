"""How everything is at one look, and what doesn't go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from engine_kit import Place

import perdure
from perdure import Engine, workflow
from perdure.api import stuck as stuck_module
from perdure.errors import UsageError


@workflow(name="overview.quick")
async def quick(fails: bool = False) -> None:
    if fails:
        raise ValueError("no")


@workflow(name="overview.asks")
async def asks() -> bool:
    return await perdure.ask("Shall we?", bool)


@workflow(name="overview.long")
async def long(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _until(engine: Engine, id: str, status: str) -> None:
    async with asyncio.timeout(60):
        while await engine.get(id).status() != status:
            await asyncio.sleep(0.01)


async def _finish(engine: Engine, *calls: Any) -> None:
    for handle in await engine.start_many(list(calls)):
        try:
            await handle.result()
        except perdure.RunFailed:
            pass


def test_an_overview_counts_runs_and_what_ended(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            nothing = await engine.overview()
            assert (nothing.runs, nothing.workflows, nothing.spent, nothing.workers) == (
                {},
                [],
                0,
                {"alive": 1},
            )
            await _finish(engine, quick(), quick(), quick(fails=True))
            await engine.start(asks(), id="a")
            while not [each async for each in engine.questions()]:
                await asyncio.sleep(0.01)
            found = await engine.overview()
            assert found.runs["completed"] == 2
            assert found.runs["failed"] == 1
            assert sum(found.runs.values()) == 4
            (first, second) = found.workflows
            assert (first.name, first.samples) == ("overview.quick", 3)
            assert first.p50 is not None
            assert first.p95 is not None
            assert 0 <= first.p50 <= first.p95
            assert (second.name, second.p95) == ("overview.asks", None)
            assert len(found.ends) == 60
            assert sum(part.completed for part in found.ends) == 2
            assert sum(part.failed for part in found.ends) == 1
            assert found.counted_since is None
            for window, parts in (("day", 48), ("week", 42)):
                longer = await engine.overview(window)  # type: ignore[arg-type]
                assert len(longer.ends) == parts
                assert sum(part.completed for part in longer.ends) == 2
            with pytest.raises(UsageError):
                await engine.overview("year")  # type: ignore[arg-type]

    asyncio.run(main())


def test_what_doesnt_go_on_is_grouped_with_what_helps(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            assert (await engine.stuck()).groups == []
            for n in range(3):
                await engine.start(long(3600), id=f"p{n}")
                await engine.get(f"p{n}").pause("lunch")
                await _until(engine, f"p{n}", "paused")
            await engine.start(asks(), id="a")
            while not [each async for each in engine.questions()]:
                await asyncio.sleep(0.01)
            page = await engine.stuck()
            paused, asked = page.groups
            assert (paused.kind, paused.count, {held.id for held in paused.runs}) == (
                "pause",
                3,
                {"p0", "p1", "p2"},
            )
            assert "lunch" in paused.what
            assert [action.path for action in paused.actions] == ["/runs/{id}/resume"]
            assert (asked.kind, asked.count, asked.runs[0].id, asked.what) == (
                "question",
                1,
                "a",
                "Shall we?",
            )
            assert (page.looked, page.stuck, page.next) == (3, 3, None)
            first = await engine.stuck(size=2)
            assert (first.looked, first.stuck) == (2, 3)
            second = await engine.stuck(size=2, cursor=first.next)
            assert [group.count for group in second.groups] == [1]
            assert (second.looked, second.next) == (3, None)
            for wrong in ({"size": 0}, {"cursor": "x"}):
                with pytest.raises(UsageError):
                    await engine.stuck(**wrong)  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_held_queue_and_a_missing_worker_are_told(place: Place) -> None:
    async def main() -> None:
        async with place.engine(worker=False) as engine:
            await engine.queues.pause("gpu")
            await engine.start(quick(), queue="gpu", id="g")
            await engine.start(quick(), queue="cpu", id="c")
            groups = {group.kind: group for group in (await engine.stuck()).groups}
            assert groups["queue"].actions[0].path == "/queues/gpu/resume"
            assert "no worker serves" in groups["worker"].what
            assert groups["worker"].todo == "perdure worker MODULE --queues cpu"

    asyncio.run(main())


def test_slow_runs_are_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stuck_module, "SLOW_SECONDS", 0.05)
    monkeypatch.setattr(stuck_module, "SLOW_TIMES", 1.0)
    monkeypatch.setattr(stuck_module, "_SAMPLE_MIN", 5)

    async def main() -> None:
        async with place.engine() as engine:
            await _finish(engine, *(long(0.001) for _ in range(6)))
            await engine.start(long(3600), id="slow")
            async with asyncio.timeout(60):
                while not (
                    found := [group for group in (await engine.stuck()).groups if group.kind == "slow"]
                ):
                    await asyncio.sleep(0.05)
            assert [held.id for held in found[0].runs] == ["slow"]
            assert found[0].actions[0].danger

    asyncio.run(main())
