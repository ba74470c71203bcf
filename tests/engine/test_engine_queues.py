"""Queues with limits, as programs use them: over several engines, with children, generations, pauses and crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from engine_kit import PATIENCE, Ledger, Mortal, Place, bury, crash, reaches, run, until

import perdure
from perdure import Queue, Rate, RunConflictError, RunFailed, Status, step, workflow
from perdure.errors import ConfigurationError, DuplicateNameError, UsageError
from perdure.runtime import queues as defined


@pytest.fixture(autouse=True)
def no_other_queues() -> Iterator[None]:
    """Queues are a program's own."""
    before = dict(defined._queues)
    defined._queues.clear()
    yield
    defined._queues.clear()
    defined._queues.update(before)


class Gate:
    """Where steps of this process wait, and which are there at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside: set[str] = set()
        self.most = 0
        self.order: list[str] = []

    async def through(self, name: str) -> None:
        self.inside.add(name)
        self.order.append(name)
        self.most = max(self.most, len(self.inside))
        try:
            await self.open.wait()
            await asyncio.sleep(0.001)
        finally:
            self.inside.discard(name)


gate = Gate()


@step
async def passes(name: str) -> str:
    await gate.through(name)
    return name


@workflow
async def works(name: str) -> str:
    return await passes(name)


def with_gate(main: Callable[[], Any]) -> None:
    async def gated() -> None:
        global gate
        gate = Gate()
        await main()

    run(gated)


def test_limits_hold_over_engines(place: Place) -> None:
    async def main() -> None:
        queue = Queue("q", concurrency=3)
        async with place.engine(queues=[queue]) as one, place.engine(queues=["q"]):
            handles = await one.start_many([works(str(n)) for n in range(12)], queue=queue)
            await until(lambda: len(gate.inside) == 3)
            assert [info.running for info in await one.queues.list() if info.name == "q"] == [3]
            gate.open.set()
            assert sorted(await asyncio.gather(*(handle.result() for handle in handles))) == sorted(
                str(n) for n in range(12)
            )
            assert gate.most == 3

    with_gate(main)


def test_the_highest_priority_is_next(place: Place) -> None:
    async def main() -> None:
        Queue("q", concurrency=1, priority=True)
        async with place.engine(queues=["q"]) as engine:
            first = await engine.start(works("first"))
            await until(lambda: gate.inside)
            handles = [await engine.start(works(str(n)), priority=n) for n in (0, 5, -1, 9)]
            gate.open.set()
            await asyncio.gather(first.result(), *(handle.result() for handle in handles))
            assert gate.order == ["first", "9", "5", "0", "-1"]

    with_gate(main)


def test_a_key_with_many_runs_does_not_starve_one_with_few(place: Place) -> None:
    async def main() -> None:
        Queue("q", concurrency=2, fairness="key")
        async with place.engine(queues=["q"]) as engine:
            many = await engine.start_many([works(f"a{n}") for n in range(40)], keys=["a"] * 40)
            await until(lambda: len(gate.inside) == 2)
            few = [await engine.start(works("b"), key="b"), await engine.start(works("c"), key="c")]
            gate.open.set()
            await asyncio.gather(*(handle.result() for handle in few))
            assert {gate.order.index("b"), gate.order.index("c")} <= {2, 3, 4}
            await asyncio.gather(*(handle.result() for handle in many))

    with_gate(main)


def test_one_of_a_key_at_a_time(place: Place) -> None:
    async def main() -> None:
        Queue("q", per_key=1)
        async with place.engine(queues=["q"]) as engine:
            handles = [
                await engine.start(works(f"{key}{n}"), key=None if key == "n" else key)
                for n in range(3)
                for key in "abn"
            ]
            await until(lambda: len(gate.inside) == 5)
            assert gate.inside == {"a0", "b0", "n0", "n1", "n2"}
            gate.open.set()
            await asyncio.gather(*(handle.result() for handle in handles))

    with_gate(main)


def test_a_rate_spreads_beginnings(place: Place) -> None:
    async def main() -> None:
        Queue("q", rate=Rate(3, per=1.0))
        gate.open.set()
        async with place.engine(queues=["q"]) as one, place.engine(queues=["q"]):
            handles = await one.start_many([works(str(n)) for n in range(7)])
            await asyncio.gather(*(handle.result() for handle in handles))
            begun = sorted([(await handle.info()).started_at.timestamp() for handle in handles])  # type: ignore[union-attr]
            assert all(later - first >= 1.0 for first, later in zip(begun, begun[3:], strict=False)), begun

    with_gate(main)


def test_what_waits_keeps_its_slot(place: Place) -> None:
    @workflow(name="queues.naps")
    async def naps(name: str) -> None:
        await passes(name)
        await perdure.receive("go")

    async def main() -> None:
        Queue("q", concurrency=1)
        gate.open.set()
        async with place.engine(queues=["q"], evict_after=0.0) as engine:
            one, two = await engine.start(naps("one")), await engine.start(naps("two"))
            worker = engine._worker
            assert worker is not None
            await until(lambda: gate.order == ["one"] and not worker.drivers)
            await reaches(one, "waiting")
            assert await two.status() is Status.QUEUED
            await one.send("go", None)
            await one.result(timeout=PATIENCE)
            await two.send("go", None)
            await two.result(timeout=PATIENCE)

    with_gate(main)


def test_generations_keep_their_slot(place: Place) -> None:
    @workflow(name="queues.counts")
    async def counts(name: str, left: int) -> str:
        await passes(f"{name}{left}")
        if left:
            perdure.continue_as(counts(name, left - 1))
        return name

    async def main() -> None:
        Queue("q", concurrency=1)
        gate.open.set()
        async with place.engine(queues=["q"]) as engine:
            handles = [await engine.start(counts(name, 2)) for name in "ab"]
            await asyncio.gather(*(handle.result() for handle in handles))
            assert gate.order == ["a2", "a1", "a0", "b2", "b1", "b0"]

    with_gate(main)


def test_children_stand_in_lines_like_others(place: Place) -> None:
    @workflow(name="queues.sends")
    async def sends() -> list[str]:
        children = [await perdure.start(works(str(n)), queue="narrow", key="k", priority=n) for n in range(4)]
        return [await child.result() for child in children]

    async def main() -> None:
        Queue("narrow", concurrency=1, priority=True)
        async with place.engine(queues=["default", "narrow"]) as engine:
            first = await engine.start(works("first"), queue="narrow")
            await until(lambda: gate.inside)
            handle = await engine.start(sends(), id="parent")
            places = []

            async def all_there() -> bool:
                nonlocal places
                places = [info async for info in engine.runs(status="queued")]
                return len(places) == 4

            await until(all_there)
            assert {(info.queue, info.key) for info in places} == {("narrow", "k")}
            assert sorted(info.priority for info in places) == [0, 1, 2, 3]
            gate.open.set()
            assert await handle.result() == ["0", "1", "2", "3"]
            await first.result()
            assert gate.order == ["first", "3", "2", "1", "0"]

    with_gate(main)


def test_a_dedup_means_the_live_run(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            one = await engine.start(works("one"), dedup="d")
            two = await engine.start(works("two"), dedup="d")
            elsewhere = await engine.start(works("elsewhere"), dedup="d", queue="other")
            assert two.id == one.id != elsewhere.id
            with pytest.raises(RunConflictError, match="only one may be live"):
                await engine.start(works("two"), dedup="d", if_exists="fail")
            with pytest.raises(RunConflictError, match="the dedup belongs to run"):
                await engine.start(other(), dedup="d")
            many = await engine.start_many([works("x"), works("y")], dedups=["d", None])
            assert many[0].id == one.id != many[1].id
            gate.open.set()
            assert await two.result() == "one"
            again = await engine.start(works("two"), dedup="d")
            assert again.id != one.id
            assert await again.result() == "two"

    with_gate(main)


@workflow
async def other() -> None: ...


def test_debounced_starts_are_one(place: Place) -> None:
    async def main() -> None:
        gate.open.set()
        async with place.engine() as engine:
            with pytest.raises(UsageError, match="needs a dedup"):
                await engine.start(works("x"), debounce=1)
            with pytest.raises(UsageError, match="takes the place of delay"):
                await engine.start(works("x"), debounce=1, key="k", delay=1)
            handles = [await engine.start(works(str(n)), key="k", debounce=0.3) for n in range(5)]
            assert len({handle.id for handle in handles}) == 1
            assert await handles[0].result() == "4"
            assert gate.order == ["4"]
            assert await engine.run(works("later"), key="k", debounce=0.01) == "later"

    with_gate(main)


def test_starts_are_put_off_no_longer_than_is_said(place: Place) -> None:
    async def main() -> None:
        gate.open.set()
        async with place.engine() as engine:
            handle = await engine.start(works("0"), dedup="k", debounce=0.2, debounce_max=0.5)
            number = 0
            while await handle.status() is Status.QUEUED:  # else this would go on for ever
                number += 1
                await engine.start(works(str(number)), dedup="k", debounce=3600, debounce_max=0.5)
            assert await handle.result() == gate.order[0]

    with_gate(main)


def test_one_run_of_a_singleton_is_live(place: Place) -> None:
    @workflow(name="queues.alone", singleton=True)
    async def alone(name: str) -> str:
        return await passes(name)

    @workflow(name="queues.parent_of_alone")
    async def parent() -> str:
        return await alone("child")

    async def main() -> None:
        async with place.engine() as engine:
            one = await engine.start(alone("one"), id="one")
            assert (await engine.start(alone("two"), id="two")).id == "one"
            with pytest.raises(UsageError, match="singleton"):
                await engine.start(alone("x"), dedup="d")
            with pytest.raises(RunFailed, match="is a singleton, and another run of it is live"):
                await engine.run(parent())
            gate.open.set()
            assert await one.result() == "one"
            assert await engine.run(parent()) == "child"

    with_gate(main)


def test_a_paused_queue_waits(place: Place) -> None:
    async def main() -> None:
        gate.open.set()
        async with place.engine() as engine, place.engine(queues=["other"]) as client:
            await client.queues.pause("default")
            handle = await engine.start(works("one"))
            assert await engine.run(works("elsewhere"), queue="other") == "elsewhere"
            assert await handle.status() is Status.QUEUED
            info = await client.queues.get("default")
            assert info is not None
            assert (info.paused, info.queued) == (True, 1)
            await client.queues.resume("default")
            assert await handle.result(timeout=PATIENCE) == "one"

    with_gate(main)


def test_draining_waits_for_what_has_begun(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            one = await engine.start(works("one"))
            await until(lambda: gate.inside)
            draining = asyncio.create_task(engine.queues.drain("default", wait=True))
            await until(lambda: _drains(engine))
            two = await engine.start(works("two"))
            assert not draining.done()
            gate.open.set()
            await draining
            assert await one.status() is Status.COMPLETED
            assert await two.status() is Status.QUEUED
            await engine.queues.resume("default")
            assert await two.result(timeout=PATIENCE) == "two"

    with_gate(main)


async def _drains(engine: perdure.Engine) -> bool:
    info = await engine.queues.get("default")
    return info is not None and info.draining


def test_operators_overrule_code(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        Queue("q", concurrency=1)
        async with place.engine(queues=["q"]) as engine:
            handles = await engine.start_many([works(str(n)) for n in range(6)])
            await until(lambda: len(gate.inside) == 1)
            info = await engine.queues.set("q", concurrency=3, rate=Rate(100, per=1, burst=50))
            assert (info.concurrency, info.rate, list(info.overridden)) == (
                3,
                Rate(100, per=1, burst=50),
                ["concurrency", "rate"],
            )
            await until(lambda: len(gate.inside) == 3)
            with pytest.raises(UsageError, match="no limit 'speed'"):
                await engine.queues.set("q", speed=3)
            with pytest.raises(ConfigurationError, match="at least 1"):
                await engine.queues.set("q", concurrency=0)
            with pytest.raises(ConfigurationError, match="concurrency"):
                await engine.queues.set("q", concurrency="many")
            info = await engine.queues.reset("q")
            assert (info.concurrency, info.rate, list(info.overridden)) == (1, None, [])
            gate.open.set()
            await asyncio.gather(*(handle.result() for handle in handles))
        defined._queues.clear()
        Queue("q", concurrency=2)
        assert not caplog.records
        async with place.engine(queues=["q"]):
            pass
        assert "queue 'q' has other limits from now on: concurrency 2; before: concurrency 1" in caplog.text

    with_gate(main)


def test_a_retry_waits_its_turn(place: Place) -> None:
    @step(name="queues.fails_once", retry=perdure.Retry(max_attempts=1))
    async def fails_once() -> str:
        if not gate.order:
            gate.order.append("failed")
            raise ValueError("not yet")
        return "now"

    @workflow(name="queues.fails")
    async def fails() -> str:
        return await fails_once()

    async def main() -> None:
        Queue("q", concurrency=1, per_key=1)
        async with place.engine(queues=["q"]) as engine:
            handle = await engine.start(fails(), key="k")
            with pytest.raises(RunFailed):
                await handle.result()
            one = await engine.start(works("one"), key="k")
            await until(lambda: gate.inside)
            await handle.retry()
            assert await handle.status() is Status.QUEUED
            gate.open.set()
            assert await handle.result(timeout=PATIENCE) == "now"
            await one.result()

    with_gate(main)


def test_what_is_wrong_is_told() -> None:
    Queue("q", concurrency=1)
    Queue("q", concurrency=2)  # the same module again: a reload
    with pytest.raises(DuplicateNameError, match="is defined in"):
        exec("import perdure; perdure.Queue('q')", {"__name__": "elsewhere"})
    for wrong in ({"concurrency": 0}, {"per_key": True}, {"rate": 5}, {"fairness": "tenant"}):
        with pytest.raises(ConfigurationError):
            Queue("wrong", **wrong)  # type: ignore[arg-type]
    for name in ("", "a,b", "a\nb"):
        with pytest.raises(ConfigurationError):
            Queue(name)

    async def main() -> None:
        async with Place().engine() as engine:
            with pytest.raises(UsageError, match="priority"):
                await engine.start(works("x"), priority=10_000_000)
            with pytest.raises(UsageError, match="key"):
                await engine.start(works("x"), key="")
            with pytest.raises(UsageError, match="2 keys"):
                await engine.start_many([works("x")], keys=["a", "b"])

    with_gate(main)


@pytest.mark.parametrize("commits", [False, True], ids=["before", "after"])
def test_limits_hold_over_deaths(place: Place, commits: bool) -> None:
    """An engine that dies at each of its appends in turn: what it had keeps its slots, and nothing gets lost."""

    async def main() -> None:
        Queue("q", concurrency=2, per_key=1)
        gate.open.set()
        ledger = Ledger()
        async with place.engine(worker=False) as client:
            keys = [str(n % 3) for n in range(6)]
            handles = await client.start_many([works(str(n)) for n in range(6)], queue="q", keys=keys)
            rows = await client._open().store.get([handle.id for handle in handles])
            ledger.ids = {row.run: row.id for row in rows if row is not None}
            for dies_at in (1, 2, 1, 3):
                mortal: list[Mortal] = []

                def wrap(store: Any, dies_at: int = dies_at, mortal: list[Mortal] = mortal) -> Mortal:
                    mortal.append(Mortal(store, dies_at, commits, ledger))
                    return mortal[0]

                engine = place.engine(wrap, queues=["q"])
                await engine.__aenter__()
                await mortal[0].dead.wait()
                await crash(engine)
                info = await client.queues.get("q")
                assert info is not None
                assert info.running <= 2
                await bury(place)
            async with place.engine(queues=["q"]):
                results = [await handle.result(timeout=PATIENCE) for handle in handles]
            assert results == [str(n) for n in range(6)]
            assert gate.most <= 2

    with_gate(main)
