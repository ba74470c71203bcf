"""Budgets: calls are reserved before they begin, charged when they are booked, and never more than there is."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure.core.accounts import Account, AccountKey, Terms
from perdure.core.budgets import Amount, Lack, Shortage, Want
from perdure.core.usage import Used
from perdure.storage.budgets import (
    Answer,
    Ask,
    Standing,
)
from perdure.storage.ledger import Book, Entry, EntryState
from perdure.storage.records import RunRow
from perdure.testing.conformance.bench import NOW, WORKFLOW, Bench, Check

ALL = Terms("all", cost=100)
PER_RUN = Terms("each", cost=100, owner="run")


def entry(id: int, state: EntryState = EntryState.SPENT, cost: int | None = 7, **fields: Any) -> Entry:
    used = Used(model="m", input=10, output=1, cost=cost)
    return Entry(id=id, state=state, used=used, step="s", name="app.s", attempt=1, at=NOW, **fields)


async def driven(bench: Bench, id: str = "r", **fields: Any) -> RunRow:
    return await bench.make(id, owner=await bench.worker(name=id), **fields)


async def bury(bench: Bench, worker: int | None) -> None:
    (alive,) = [each for each in await bench.store.workers() if each.id == worker]
    await bench.store.bury(alive.id, alive.lease_until, now=NOW, max_recoveries=9)


async def reserve(bench: Bench, row: RunRow, id: int, cost: int | None, **fields: Any) -> Answer:
    ask = Ask(row.run, id, Want("app.s", cost, fields.pop("tokens", None)), row.epoch, **fields)
    answers = await bench.store.budgets.reserve([ask], now=NOW)
    assert answers is not None
    return answers[0]


async def begin(bench: Bench, row: RunRow, id: int) -> RunRow:
    """The attempt begins: its open entry is in the ledger."""
    book = Book([entry(id, EntryState.OPEN, epoch=row.epoch)])
    return await bench.put(await bench.row(row.id), b"e", effects=[book])


async def settle(bench: Bench, row: RunRow, id: int, *costs: int | None) -> None:
    calls = [entry(1000 * id + number, cost=cost) for number, cost in enumerate(costs)]
    await bench.put(await bench.row(row.id), b"e", effects=[Book(calls, closes=id, held=True)])


async def standing(bench: Bench, name: str = "all", owner: str = "") -> Standing:
    found = await bench.store.budgets.standings(name)
    return next(
        (each for each in found if each.key.owner == owner),
        Standing(AccountKey(""), Account(), Amount(), Amount(), 0),
    )


async def figures(bench: Bench, name: str = "all", owner: str = "") -> tuple[int, int]:
    """What is spent, and held."""
    account = (await standing(bench, name, owner)).account
    return account.spent, account.held


async def without_budgets_nothing_is_asked(bench: Bench) -> None:
    row = await driven(bench)
    ask = Ask(row.run, 1, Want("app.s", 5), row.epoch)
    assert await bench.store.budgets.reserve([ask], now=NOW) is None
    await settle(bench, row, 1, 7)
    assert await bench.store.budgets.definitions() == []


async def the_newest_definition_holds(bench: Bench) -> None:
    assert await bench.store.budgets.define([ALL, PER_RUN], now=NOW) == []
    assert await bench.store.budgets.define([ALL], now=NOW) == []
    newer = Terms("all", cost=200)
    assert await (await bench.another()).budgets.define([newer], now=NOW) == [ALL]
    assert [each.terms for each in await bench.store.budgets.definitions()] == [newer, PER_RUN]


async def a_call_is_reserved_and_settled(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    assert await reserve(bench, row, 1, 30) is True
    assert await figures(bench) == (0, 30)
    await begin(bench, row, 1)
    await settle(bench, row, 1, 7, 5)
    assert await figures(bench) == (12, 0)
    assert (await standing(bench)).account.spent_tokens == 22


async def no_more_is_reserved_than_there_is(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    asks = [Ask(row.run, id, Want("app.s", 30), row.epoch) for id in range(1, 6)]
    stores = [bench.store, await bench.another(), await bench.another()]
    answers: list[Answer] = []
    for given in await asyncio.gather(
        *(store.budgets.reserve(asks[place::3], now=NOW) for place, store in enumerate(stores))
    ):
        answers += given or []
    assert answers.count(True) == 3
    short = [each for each in answers if isinstance(each, Shortage)]
    assert [each.lack for each in short] == [Lack.CROWDED] * 2
    assert await figures(bench) == (0, 90)


async def a_reservation_made_again_recognises_itself(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    assert [await reserve(bench, row, 1, 60) for _ in range(2)] == [True, True]
    assert await figures(bench) == (0, 60)


async def what_is_spent_leaves_no_room(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    await begin(bench, row, 1)
    await settle(bench, row, 1, 80)
    short = await reserve(bench, row, 2, 30)
    assert isinstance(short, Shortage)
    assert (short.lack, short.key, short.action) == (Lack.EXHAUSTED, AccountKey("all"), "pause")
    assert await reserve(bench, row, 3, 20) is True


async def a_failed_call_gives_its_money_back(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    await begin(bench, row, 1)
    await settle(bench, row, 1)
    assert await figures(bench) == (0, 0)


async def a_repeated_settlement_changes_nothing(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    book = Book([entry(5)], closes=1, held=True)
    append = bench.change(row, b"e", effects=[book])
    for store in (bench.store, await bench.another()):
        await store.append([append])
    for store in (bench.store, await bench.another()):
        await store.ledger.book(row.run, book)
    assert await figures(bench) == (7, 0)


async def settlements_of_one_call_meet(bench: Bench) -> None:
    """What an attempt tells late may come while its outcome is written."""
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 40)
    row = await begin(bench, row, 1)
    await reserve(bench, row, 2, 50)
    stores = [await bench.another() for _ in range(4)]
    books = [Book([entry(10 + number)], closes=1, held=True) for number in range(4)]
    await asyncio.gather(
        *(store.ledger.book(row.run, book) for store, book in zip(stores, books, strict=True))
    )
    assert await figures(bench) == (28, 50)


async def a_stale_settlement_changes_nothing(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    await bench.append(row, b"e", epoch=row.epoch + 1, effects=[Book([entry(5)], closes=1, held=True)])
    assert await figures(bench) == (0, 90)


async def an_unknown_spend_keeps_its_reservation(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    other = await driven(bench, "other")
    short = await reserve(bench, other, 2, 20)
    assert isinstance(short, Shortage)
    assert short.lack is Lack.CROWDED
    await bury(bench, row.owner)
    short = await reserve(bench, other, 2, 20)
    assert isinstance(short, Shortage)
    assert short.lack is Lack.EXHAUSTED
    assert "unknown outcome" in short.why
    found = await standing(bench)
    assert (found.account.held, found.lost.cost) == (90, 90)


async def what_never_began_is_given_back(bench: Bench) -> None:
    await bench.store.budgets.define([ALL, PER_RUN], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    await bury(bench, row.owner)
    assert await reserve(bench, await driven(bench, "other"), 2, 20) is True
    assert await figures(bench) == (0, 20)
    (again,) = await bench.claim(await bench.worker(), now=NOW + 1)
    assert await reserve(bench, again, 3, 30) is True
    assert await figures(bench, "each", "r") == (0, 30)


async def part_of_an_unknown_spend_may_be_known(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    await bench.put(row, b"e", effects=[Book([entry(5, cost=20)], loses=1, held=True)])
    assert await figures(bench) == (20, 70)
    await bench.store.ledger.book(row.run, Book([entry(6, cost=10)], closes=1, held=True))
    assert await figures(bench) == (30, 0)
    await bench.store.ledger.book(row.run, Book([entry(7, cost=10)], closes=1, held=True))
    assert await figures(bench) == (40, 0)


async def what_its_driver_lost_is_lost(bench: Bench) -> None:
    """A time-out, say: the worker lives, and knows that it will never know."""
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    await reserve(bench, row, 1, 90)
    row = await begin(bench, row, 1)
    assert (await standing(bench)).live.cost == 90
    await bench.put(row, b"e", effects=[Book(loses=1, held=True)])
    found = await standing(bench)
    assert (found.live.cost, found.lost.cost) == (0, 90)
    short = await reserve(bench, row, 2, 20)
    assert isinstance(short, Shortage)
    assert short.lack is Lack.EXHAUSTED


async def what_was_not_reserved_is_charged_all_the_same(bench: Bench) -> None:
    await bench.store.budgets.define([ALL, PER_RUN], now=NOW)
    row = await driven(bench)
    await bench.put(row, b"e", effects=[Book([entry(5, cost=120)])])
    assert await figures(bench) == (120, 0)
    assert await figures(bench, "each", "r") == (120, 0)
    short = await reserve(bench, row, 1, 1)
    assert isinstance(short, Shortage)
    assert short.lack is Lack.EXHAUSTED


async def a_child_charges_its_ancestors(bench: Bench) -> None:
    terms = Terms("tree", workflow="app.top", cost=100, owner="run")
    other = Terms("none", workflow="app.other", cost=1, owner="run")
    await bench.store.budgets.define([terms, other, Terms("all", cost=1000)], now=NOW)
    worker = await bench.worker()
    top = await bench.make("top", owner=worker, workflow="app.top", key="acme")
    child = bench.new("child", owner=worker, parent=top.run, parent_op="c#1")
    await bench.put(top, b"e", children=[child])
    row = await bench.row("child")
    assert await reserve(bench, row, 1, 60) is True
    assert await figures(bench, "tree", "top") == (0, 60)
    short = await reserve(bench, await bench.row("top"), 2, 60)
    assert isinstance(short, Shortage)
    assert (short.lack, short.key) == (Lack.CROWDED, AccountKey("tree", "top"))
    assert await figures(bench) == (0, 60)  # all or nothing
    row = await begin(bench, row, 1)
    await settle(bench, row, 1, 50)
    assert await figures(bench, "tree", "top") == (50, 0)
    assert await bench.store.budgets.standings("none") == []


async def each_kind_of_owner_has_accounts(bench: Bench) -> None:
    many = [
        Terms("run", cost=9, owner="run"),
        Terms("workflow", cost=9, owner="workflow"),
        Terms("key", cost=9, owner="key"),
        Terms("day", cost=9, daily=True),
        Terms("keyday", cost=9, owner="key", daily=True),
    ]
    await bench.store.budgets.define(many, now=NOW)
    assert await reserve(bench, await driven(bench, key="acme"), 1, 5) is True
    assert await reserve(bench, await driven(bench, "plain"), 2, 1) is True
    found = {
        (key.name, key.owner, key.day): each.account.held
        for terms in many
        for each in await bench.store.budgets.standings(terms.name)
        for key in [each.key]
    }
    assert found == {
        ("run", "r", ""): 5,
        ("run", "plain", ""): 1,
        ("workflow", WORKFLOW, ""): 6,
        ("key", "acme", ""): 5,
        ("key", "", ""): 1,
        ("day", "", "2023-11-14"): 6,
        ("keyday", "acme", "2023-11-14"): 5,
        ("keyday", "", "2023-11-14"): 1,
    }


async def a_day_has_its_own_money(bench: Bench) -> None:
    await bench.store.budgets.define([Terms("day", cost=100, daily=True)], now=NOW)
    row = await driven(bench)
    short = await reserve(bench, row, 1, 110)
    assert isinstance(short, Shortage)
    assert short.until is not None
    ask = Ask(row.run, 2, Want("app.s", 90), row.epoch)
    for now in (NOW, short.until - 0.001, short.until):
        answers = await bench.store.budgets.reserve([Ask(row.run, int(now), ask.want, row.epoch)], now=now)
        assert answers is not None
        assert (answers[0] is True) == (now in (NOW, short.until))


async def tokens_are_counted_like_money(bench: Bench) -> None:
    await bench.store.budgets.define([Terms("all", tokens=100)], now=NOW)
    row = await driven(bench)
    assert await reserve(bench, row, 1, None, tokens=60) is True
    short = await reserve(bench, row, 2, None, tokens=60)
    assert isinstance(short, Shortage)
    row = await begin(bench, row, 1)
    await settle(bench, row, 1, None)
    account = (await standing(bench)).account
    assert (account.spent_tokens, account.held_tokens, account.unpriced) == (11, 0, 1)


async def a_call_of_which_nothing_is_known_goes_alone(bench: Bench) -> None:
    await bench.store.budgets.define([ALL], now=NOW)
    row = await driven(bench)
    assert await reserve(bench, row, 1, None) is True
    assert await figures(bench) == (0, 100)
    short = await reserve(bench, row, 2, None)
    assert isinstance(short, Shortage)
    assert short.lack is Lack.CROWDED
    row = await begin(bench, row, 1)
    await settle(bench, row, 1, 10)
    assert [await reserve(bench, row, id, None) for id in (3, 4)] == [True, True]
    assert await figures(bench) == (10, 40)


async def an_errand_is_held_for_its_sender(bench: Bench) -> None:
    await bench.store.budgets.define([PER_RUN], now=NOW)
    sender, errand = await driven(bench, "sender"), await driven(bench, "errand")
    ask = Ask(sender.run, 1, Want("app.s", 90), errand.epoch, "errand")
    await bench.store.budgets.reserve([ask], now=NOW)
    opening = entry(1, EntryState.OPEN, epoch=errand.epoch, errand="errand")
    await bench.put(errand, b"e", effects=[Book([opening], run=sender.run)])
    assert await figures(bench, "each", "sender") == (0, 90)
    await bury(bench, errand.owner)
    assert (await standing(bench, "each", "sender")).lost.cost == 90


async def many_runs_settle_in_one_batch(bench: Bench) -> None:
    await bench.store.budgets.define([Terms("all", cost=10_000), PER_RUN], now=NOW)
    rows = [await driven(bench, f"r-{number}") for number in range(6)]
    for row in rows:
        assert await reserve(bench, row, 1, 90) is True
        await begin(bench, row, 1)
    changes = [
        bench.change(await bench.row(row.id), b"e", effects=[Book([entry(5)], closes=1, held=True)])
        for row in rows
    ]
    other = await bench.another()
    await asyncio.gather(bench.store.append(changes[::2]), other.append(changes[:0:-2]))
    assert await figures(bench) == (42, 0)
    assert [await figures(bench, "each", row.id) for row in rows] == [(7, 0)] * 6


CHECKS: tuple[Check, ...] = (
    without_budgets_nothing_is_asked,
    the_newest_definition_holds,
    a_call_is_reserved_and_settled,
    no_more_is_reserved_than_there_is,
    a_reservation_made_again_recognises_itself,
    what_is_spent_leaves_no_room,
    a_failed_call_gives_its_money_back,
    a_repeated_settlement_changes_nothing,
    settlements_of_one_call_meet,
    a_stale_settlement_changes_nothing,
    an_unknown_spend_keeps_its_reservation,
    what_never_began_is_given_back,
    part_of_an_unknown_spend_may_be_known,
    what_its_driver_lost_is_lost,
    what_was_not_reserved_is_charged_all_the_same,
    a_child_charges_its_ancestors,
    each_kind_of_owner_has_accounts,
    a_day_has_its_own_money,
    tokens_are_counted_like_money,
    a_call_of_which_nothing_is_known_goes_alone,
    an_errand_is_held_for_its_sender,
    many_runs_settle_in_one_batch,
)
