"""Budgets are raised, set and forgotten, and whoever waits for money hears of it."""

from __future__ import annotations

import asyncio

from perdure.core.accounts import AccountKey, Terms
from perdure.core.budgets import Lack, Shortage, Want
from perdure.storage.budgets import Ask, AwaitMoney, Forget, Overrule, Raise
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.budgets import ALL, begin, driven, figures, reserve, settle, standing


async def whoever_waits_is_woken_by_a_raise(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    wait = AwaitMoney("s#1", AccountKey("all"), 0, b"go on")
    row = await bench.put(row, b"e", effects=[wait], status="blocked", block_code="step", release=True)
    assert (await standing(bench)).waiting == 1
    assert await bench.claim(await bench.worker()) == []
    assert await bench.store.budgets.change(Raise(AccountKey("all"), 50), now=NOW)
    assert await bench.inbox(row) == [b"go on"]
    assert [each.id for each in await bench.claim(await bench.worker(), now=NOW)] == ["r"]
    found = await standing(bench)
    assert (found.account.extra, found.waiting) == (50, 0)
    await bench.store.budgets.change(Raise(AccountKey("all"), 50), now=NOW)
    assert await bench.inbox(row) == [b"go on"]


async def nobody_sleeps_through_a_raise(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    short = await reserve(bench, row, 1, 110)
    assert isinstance(short, Shortage)
    await bench.store.budgets.change(Raise(AccountKey("all"), 50), now=NOW)
    row = await bench.put(row, b"e", effects=[AwaitMoney("s#1", short.key, short.version, b"go on")])
    assert await bench.inbox(row) == [b"go on"]
    assert (await standing(bench)).waiting == 0


async def raises_and_waits_meet(bench: Bench) -> None:
    """However they meet, each wait is woken."""
    await bench.store.budgets.define([ALL], now=NOW)
    rows = [await driven(bench, f"r-{number}") for number in range(8)]
    other = await bench.another()

    async def waits(row: RunRow) -> None:
        short = await reserve(bench, row, 1, 110)
        version = short.version if isinstance(short, Shortage) else 0
        await bench.append(row, b"e", effects=[AwaitMoney("s#1", AccountKey("all"), version, b"go on")])

    async def raises() -> None:
        for _ in range(4):
            await other.budgets.change(Raise(AccountKey("all"), 1), now=NOW)

    await asyncio.gather(*map(waits, rows), raises())
    await other.budgets.change(Raise(AccountKey("all"), 1), now=NOW)
    assert [await bench.inbox(row) for row in rows] == [[b"go on"]] * 8


async def caps_are_set_and_taken_back(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await bench.put(row, b"e", effects=[AwaitMoney("s#1", AccountKey("all"), 0, b"go on")])
    assert await bench.store.budgets.change(Overrule("all", cost=200), now=NOW)
    assert await bench.inbox(row) == [b"go on"]
    assert await reserve(bench, row, 1, 150) is True
    await bench.store.budgets.define([ALL], now=NOW)
    (kept,) = await bench.store.budgets.definitions()
    assert kept.terms.cost == 200
    await bench.store.budgets.change(Overrule("all", back=True), now=NOW)
    (kept,) = await bench.store.budgets.definitions()
    assert kept.terms == ALL


async def whoever_waits_is_woken_by_another_declaration(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    row = await bench.put(row, b"e", effects=[AwaitMoney("s#1", AccountKey("all"), 0, b"go on")])
    assert await bench.store.budgets.define([ALL], now=NOW) == []
    assert await bench.inbox(row) == []
    assert await bench.store.budgets.define([Terms("all", cost=500)], now=NOW) == [ALL]
    assert await bench.inbox(row) == [b"go on"]


async def a_budget_is_forgotten(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    row = await bench.put(row, b"e", effects=[AwaitMoney("s#1", AccountKey("all"), 0, b"go on")])
    assert await bench.store.budgets.change(Forget("all"), now=NOW)
    assert await bench.inbox(row) == [b"go on"]
    assert await bench.store.budgets.standings("all") == []
    assert not await bench.store.budgets.change(Forget("all"), now=NOW)
    await settle(bench, row, 1, 7)
    assert await bench.store.budgets.standings("all") == []


async def a_spike_opens_the_breaker(bench: Bench) -> None:
    await bench.store.budgets.define([Terms("all", spike=100)], now=NOW)
    row = await driven(bench)
    assert await reserve(bench, row, 1, 90) is True
    crowded = await reserve(bench, row, 2, 20)
    assert isinstance(crowded, Shortage)
    assert crowded.lack is Lack.CROWDED
    await begin(bench, row, 1)
    await settle(bench, row, 1, 85)
    for later in (0.0, 3600.0):  # it stays open
        ask = Ask(row.run, 2, Want("app.s", 20), row.epoch)
        answers = await bench.store.budgets.reserve([ask], now=NOW + later)
        assert answers is not None
        assert isinstance(answers[0], Shortage)
        assert answers[0].lack is Lack.TRIPPED
    await bench.store.budgets.change(Raise(AccountKey("all")), now=NOW)
    assert await reserve(bench, row, 2, 20) is True


async def a_person_may_let_a_call_go_beyond(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    ask = Ask(row.run, 1, Want("app.s", 150, allowed=True), row.epoch, waits=(row.run, "s#1"))
    assert await bench.store.budgets.reserve([ask], now=NOW) == [True]
    assert await figures(bench) == (0, 150)


CHECKS: tuple[Check, ...] = (
    whoever_waits_is_woken_by_a_raise,
    nobody_sleeps_through_a_raise,
    raises_and_waits_meet,
    caps_are_set_and_taken_back,
    whoever_waits_is_woken_by_another_declaration,
    a_budget_is_forgotten,
    a_spike_opens_the_breaker,
    a_person_may_let_a_call_go_beyond,
)
