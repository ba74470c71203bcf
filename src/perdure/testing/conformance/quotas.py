"""Quotas: how much a namespace may have, for all who start runs there."""

from __future__ import annotations

import asyncio

from perdure.core.quotas import PROMISED_FOR, Measured, Quota
from perdure.core.rates import Rate
from perdure.testing.conformance.bench import NOW, Bench, Check


async def a_namespace_without_a_quota_may_have_all(bench: Bench) -> None:
    """And quotas of one don't concern another whose name begins alike."""
    await bench.store.quotas.set("acme", Quota(runs=0))
    ids = [f":acme-2/{number}" for number in range(100)]
    assert await bench.store.quotas.take("acme-2", ids, now=NOW) is None
    assert await bench.store.quotas.take("acm", [":acm/1"], now=NOW) is None
    assert (await bench.store.quotas.take("acme", [":acme/1"], now=NOW)) is not None
    await bench.store.quotas.set("acme", None)
    assert await bench.store.quotas.all() == {}
    assert await bench.store.quotas.take("acme", [":acme/1"], now=NOW) is None


async def live_runs_are_counted_and_promised_ones(bench: Bench) -> None:
    """Children too; a run that has ended frees its place, and one that never came as well, after a while."""
    quotas, worker = bench.store.quotas, await bench.worker()
    await quotas.set("acme", Quota(runs=3))
    row = await bench.make(":acme/parent", owner=worker)
    for other in ("none", ":acme0", ":acmf/x", ":acm/x"):
        await bench.make(other)
    row = await bench.put(row, b"2", children=[bench.new(":acme/child")])
    assert await quotas.live("acme") == 2
    assert await quotas.take("acme", [":acme/a"], now=NOW) is None
    assert await quotas.take("acme", [":acme/a"], now=NOW) is None  # asked for once, however often
    refusal = await quotas.take("acme", [":acme/b"], now=NOW)
    assert refusal is not None
    assert (refusal.what, refusal.limit, refusal.used, refusal.again) == ("runs", 3, 3, None)
    assert await quotas.take("acme", [":acme/parent"], now=NOW) is None  # it is there already
    await bench.make(":acme/a", owner=worker)
    assert await quotas.live("acme") == 3
    assert await quotas.take("acme", [":acme/b"], now=NOW) is not None
    await bench.put(await bench.row(":acme/a"), b"end", status="completed")
    assert await quotas.take("acme", [":acme/b", ":acme/c"], now=NOW) is not None  # all or none
    assert await quotas.take("acme", [":acme/b"], now=NOW) is None
    assert await quotas.take("acme", [":acme/c"], now=NOW) is not None
    assert await quotas.take("acme", [":acme/c"], now=NOW + PROMISED_FOR + 1) is None  # b never came


async def of_those_who_ask_at_once_only_so_many_get_in(bench: Bench) -> None:
    """Over several stores."""
    other = await bench.another()
    await bench.store.quotas.set("acme", Quota(runs=5))
    asked = [
        store.quotas.take("acme", [f":acme/{number}"], now=NOW)
        for number in range(6)
        for store in (bench.store,)
    ]
    asked += [other.quotas.take("acme", [f":acme/x{number}"], now=NOW) for number in range(6)]
    answers = await asyncio.gather(*asked)
    assert answers.count(None) == 5


async def starts_are_paced(bench: Bench) -> None:
    """And told when there is room again."""
    quotas = bench.store.quotas
    await quotas.set("acme", Quota(starts=Rate(10, per=60, burst=2)))
    assert await quotas.take("acme", [":acme/1", ":acme/2"], now=NOW) is None
    refusal = await quotas.take("acme", [":acme/3"], now=NOW)
    assert refusal is not None
    assert refusal.what == "starts"
    assert refusal.again is not None
    assert await quotas.take("acme", [":acme/3"], now=refusal.again - 0.01) is not None
    assert await quotas.take("acme", [":acme/3"], now=refusal.again) is None
    await quotas.set(
        "acme", Quota(starts=Rate(10, per=60, burst=2), runs=100)
    )  # what was admitted goes on to count
    assert await quotas.take("acme", [":acme/4"], now=refusal.again) is not None


async def storage_and_spending_are_measured(bench: Bench) -> None:
    """What was measured counts until it is measured anew."""
    quotas, worker = bench.store.quotas, await bench.worker()
    row = await bench.make(":acme/r", owner=worker)
    await bench.put(row, b"x" * 5000, b"y" * 5000)
    await bench.make("elsewhere")
    size, spent = await quotas.measure("acme", since=0.0)
    assert 50 < size < 20_000  # a store that compresses keeps less
    assert spent == 0
    await quotas.set("acme", Quota(storage=size, usd=1.5))
    assert await quotas.take("acme", [":acme/1"], now=NOW) is None
    refusal = await quotas.take("acme", [":acme/2"], now=NOW, measured=Measured(NOW, size, 0))
    assert refusal is not None
    assert (refusal.what, refusal.limit) == ("storage", size)
    assert (await quotas.take("acme", [":acme/2"], now=NOW)) is not None
    refusal = await quotas.take("acme", [":acme/2"], now=NOW, measured=Measured(NOW, 0, 1_500_000_000))
    assert refusal is not None
    assert (refusal.what, refusal.used) == ("usd", 1.5)
    assert refusal.again is not None  # the next month
    assert await quotas.take("acme", [":acme/2"], now=NOW, measured=Measured(NOW, 0, 1)) is None
    assert (await quotas.all())["acme"].measured == Measured(NOW, 0, 1)


CHECKS: tuple[Check, ...] = (
    a_namespace_without_a_quota_may_have_all,
    live_runs_are_counted_and_promised_ones,
    of_those_who_ask_at_once_only_so_many_get_in,
    starts_are_paced,
    storage_and_spending_are_measured,
)
