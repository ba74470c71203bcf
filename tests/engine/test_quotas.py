"""How much a namespace may have: whoever starts too much is told what, how much, and when again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from engine_kit import Place, run, says, until

import perdure
from perdure import Quota, QuotaExceededError, Rate, step, workflow
from perdure.errors import ConfigurationError, LimitExceededError, NamespaceError, UsageError


@workflow
async def waits() -> str:
    return await perdure.receive("go", str)


@workflow
async def has_children(count: int) -> None:
    for number in range(count):
        await perdure.start(waits(), id=f"child-{number}", on_parent_close="abandon")


@step
async def spends() -> None:
    perdure.record_usage(model="some-model", input_tokens=1, cost=2.0)


@workflow
async def pays() -> None:
    await spends()


def test_so_many_runs_may_be_live(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            acme, other = engine.namespace("acme"), engine.namespace("other")
            await engine.quotas.set("acme", Quota(runs=3))
            first = await acme.start(waits(), id="1")
            parent = await acme.start(has_children(2), id="parent")  # children count, and aren't refused
            await parent.result()
            await until(lambda: _live(engine, "acme", 3))
            with pytest.raises(QuotaExceededError, match=r"'acme'.*3 runs are live.*quota is 3") as info:
                await acme.start(waits(), id="2")
            error = info.value
            assert isinstance(error, LimitExceededError)
            assert (error.namespace, error.what, error.limit, error.used, error.again) == (
                "acme", "runs", 3, 3, None,
            )  # fmt: skip
            assert {item.id async for item in acme.runs(limit=None)} == {"1", "parent", "child-0", "child-1"}
            assert (await acme.start(waits(), id="1")).id == "1"  # it is there: nothing is started
            with pytest.raises(QuotaExceededError):
                await acme.start_many([waits(), waits()])
            await other.start(waits(), id="1")
            await engine.start(waits(), id="1")
            await first.send("go", "on")
            assert await first.result() == "on"
            await acme.start(waits(), id="2")
            await engine.quotas.remove("acme")
            await asyncio.sleep(1.1)  # others believe what they knew for a second
            await acme.start(waits(), id="3")
            assert await engine.quotas.list() == []

    run(main)


async def _live(engine: perdure.Engine, namespace: str, count: int) -> bool:
    info = await engine.quotas.get(namespace)
    return info is not None and info.runs == count


def test_all_who_start_share_a_quota(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as one, place.engine(worker=False) as two:
            await one.quotas.set("acme", Quota(runs=10))
            starts = [
                engine.namespace("acme").start(waits(), id=f"{number}-{name}")
                for number in range(10)
                for name, engine in (("one", one), ("two", two))
            ]
            told = await asyncio.gather(*starts, return_exceptions=True)
            assert sum(isinstance(item, QuotaExceededError) for item in told) == 10
            assert await _live(one, "acme", 10)

    run(main)


def test_starts_storage_and_spending(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            acme = engine.namespace("acme")
            await engine.quotas.set("acme", Quota(starts=Rate(4, per=3600, burst=2)))
            await acme.start_many([waits(), waits()])
            with pytest.raises(QuotaExceededError, match=r"4 starts is used up.*Try again at") as info:
                await acme.start(waits())
            assert info.value.again is not None
            assert info.value.again > datetime.now(UTC)
            (state,) = await engine.quotas.list()
            assert (state.namespace, state.starts, state.runs) == ("acme", 0, 2)
            assert state.starts_at is not None
            await engine.quotas.set("acme", Quota(storage=2000))
            await acme.run(_large("x" * 4000))
            _measures_again(engine)
            with pytest.raises(QuotaExceededError, match=r"bytes.*quota is 2,000"):
                await acme.start(waits())
            with pytest.raises(QuotaExceededError):
                await acme.publish("event", 1)
            await engine.quotas.set("acme", Quota(usd=1.5, per="day"))
            await asyncio.sleep(1.1)
            await acme.run(pays(), id="pays")
            _measures_again(engine)
            with pytest.raises(QuotaExceededError, match=r"2 USD are spent.*quota is 1.5.*00:00:00 UTC"):
                await acme.start(waits())
            info_ = await engine.quotas.get("acme")
            assert info_ is not None
            assert (info_.usd, info_.storage) == (2.0, None)

    run(main)


@workflow
async def _large(text: str) -> int:
    return len(await says(text))


def _measures_again(engine: perdure.Engine) -> None:
    """As half a minute later."""
    admission: Any = engine.namespace("acme")._open().store._admission  # type: ignore[attr-defined]
    admission._known_at = -100.0
    admission._known.clear()
    state = admission._store.quotas

    async def all_() -> Any:
        found = await type(state).all(state)
        for item in found.values():
            item.measured = type(item.measured)()
        return found

    state.all = all_


def test_a_namespace_sees_its_own_quota_and_gives_none(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.quotas.set("acme", Quota(runs=1))
            await engine.quotas.set("other", Quota(runs=2))
            acme = engine.namespace("acme")
            assert [info.namespace for info in await acme.quotas.list()] == ["acme"]
            assert await acme.quotas.get("other") is None
            with pytest.raises(NamespaceError):
                await acme.quotas.set("acme", Quota(runs=100))
            with pytest.raises(NamespaceError):
                await acme.quotas.remove("acme")
            for wrong in ("", ":x/", "A", "x" * 64):
                with pytest.raises(UsageError):
                    await engine.quotas.set(wrong, Quota(runs=1))
            with pytest.raises(UsageError, match=r"perdure\.Quota"):
                await engine.quotas.set("acme", 5)  # type: ignore[arg-type]

    run(main)
    for options in ({"runs": -1}, {"storage": True}, {"usd": float("nan")}, {"per": "week"}):
        with pytest.raises(ConfigurationError):
            Quota(**options)  # type: ignore[arg-type]


def test_what_schedules_start_counts_and_isnt_held_up(place: Place) -> None:
    async def main() -> None:
        async with place.engine() as engine:
            await engine.quotas.set("acme", Quota(runs=1))
            acme = engine.namespace("acme")
            await acme.schedules.create("often", waits(), every=0.2, overlap="allow")
            await until(lambda: _at_least(engine, 2))
            with pytest.raises(QuotaExceededError):
                await acme.start(waits())
            await acme.schedules.get("often").delete()

    run(main)


async def _at_least(engine: perdure.Engine, count: int) -> bool:
    info = await engine.quotas.get("acme")
    return info is not None and info.runs >= count
