"""Replies that get lost: what the server did happens exactly once, and the caller is told what it would have been."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import pytest
from psycopg.conninfo import conninfo_to_dict

from helpers.postgres import Server, lent_database, shared
from helpers.proxies import Proxy
from perdure.core.attributes import attributes_of
from perdure.core.status import Status
from perdure.storage.changes import OnChange
from perdure.storage.effects import StepDetail
from perdure.storage.postgres import PostgresStore
from perdure.storage.records import Appended, Delivery, MailKind, Successor
from perdure.storage.schedules import ScheduleRow
from perdure.storage.workers import Heartbeat
from perdure.testing.conformance import CHECKS, Check, run_check
from perdure.testing.conformance.bench import NOW, Bench

SOAK = os.environ.get("PERDURE_SOAK") == "1"


@pytest.fixture
def server() -> Server:
    if "PERDURE_TEST_POSTGRES" in os.environ:
        pytest.skip("proxies go to our own server only")
    return shared()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def url(server: Server, proxy: Proxy) -> Iterator[str]:
    """Of an empty database behind the proxy."""
    with lent_database() as direct:
        yield server.url(str(conninfo_to_dict(direct)["dbname"]), port=proxy.port)


Story: TypeAlias = Callable[[Bench, Callable[..., Awaitable[Any]]], Awaitable[None]]


async def append_one_event(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    assert await lost(bench.append(row, b"marked"), after=b"marked") == Appended(2)
    assert await bench.history(row) == [b"first", b"marked"]
    assert await bench.append(await bench.row("a"), b"more") == Appended(3)


async def append_many_events(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    assert await lost(bench.append(row, b"marked", b"2"), after=b"marked") == Appended(3)
    assert await bench.history(row) == [b"first", b"marked", b"2"]


async def append_with_an_effect(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    answer = await lost(bench.append(row, b"1", effects=[StepDetail("s", b"d", NOW)]))
    assert answer == Appended(2)
    assert await bench.history(row) == [b"first", b"1"]


async def append_with_children(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    child = bench.new("c", owner=worker, parent_op="op#1")
    answer = await lost(bench.append(row, b"1", children=[child]))
    made = await bench.row("c")
    assert answer == Appended(2, ((made.run, 1),))


async def go_on_in_the_next_generation(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    row = await bench.make("a", owner=worker)
    following = Successor(bench.new("a", owner=worker, generation=2))
    answer = await lost(bench.append(row, b"1", status=Status.CONTINUED, successor=following))
    newest = await bench.row("a")
    assert newest.generation == 2
    assert answer == Appended(2, (), (newest.run, 1))


async def send(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    row = await bench.make("a")
    assert await lost(bench.store.send("a", b"hello", now=NOW)) is Delivery.DELIVERED
    assert await bench.inbox(row) == [b"hello"]


async def send_with_a_key(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    row = await bench.make("a")
    sending = bench.store.send("a", b"hello", now=NOW, kind=MailKind.MESSAGE, key="k")
    assert await lost(sending) is Delivery.DELIVERED
    assert await bench.inbox(row) == [b"hello"]


async def create(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    made = await lost(bench.store.create([bench.new("a"), bench.new("b")]))
    assert [one.new for one in made] == [True, True]
    assert [one.row for one in made] == await bench.store.get(["a", "b"])


async def claim(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    await bench.make("a")
    (row,) = await lost(bench.claim(worker))
    assert (row.id, row.epoch, row.owner) == ("a", 1, worker)
    assert await bench.store.owned(worker) == [(row.run, 1)]


async def register(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await lost(bench.worker())
    assert [row.id for row in await bench.store.workers()] == [worker]


async def bury(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    await bench.make("a", owner=worker)
    (row,) = await bench.store.workers()
    burial = bench.store.bury(worker, row.lease_until, now=NOW, max_recoveries=3)
    assert await lost(burial) == 1
    assert ((await bench.row("a")).recoveries, (await bench.row("a")).epoch) == (1, 2)


async def heartbeat(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    worker = await bench.worker()
    assert await lost(bench.store.heartbeat(worker, Heartbeat(NOW + 99, NOW)))
    assert [row.lease_until for row in await bench.store.workers()] == [NOW + 99]


async def schedule(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    row = ScheduleRow("s", 7, NOW, False, [], b"data")
    assert await lost(bench.store.schedules.create(row)) is None
    assert await lost(bench.store.schedules.change(row, runs=[bench.new("a")], now=NOW))
    found = await bench.store.schedules.get("s")
    assert found is not None
    assert found.version == 8
    assert (await bench.row("a")).seq == 1


async def terminate(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    row = await bench.make("a")
    assert await lost(bench.store.terminate("a", b"end", now=NOW)) is Delivery.DELIVERED
    assert await bench.history(row) == [b"first", b"end"]


async def set_attributes(bench: Bench, lost: Callable[..., Awaitable[Any]]) -> None:
    row = await bench.make("a")
    setting = bench.store.attributes.set("a", attributes_of({"x": 1}), b"set", now=NOW)
    assert await lost(setting) is Delivery.DELIVERED
    assert await bench.inbox(row) == [b"set"]


STORIES: list[Story] = [
    append_one_event,
    append_many_events,
    append_with_an_effect,
    append_with_children,
    go_on_in_the_next_generation,
    send,
    send_with_a_key,
    create,
    claim,
    register,
    bury,
    heartbeat,
    schedule,
    terminate,
    set_attributes,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_what_was_done_without_a_reply_is_done_once(story: Story, proxy: Proxy, url: str) -> None:
    async def main() -> None:
        bench = Bench(lambda: PostgresStore(url))
        await bench.open()

        async def lost(verb: Awaitable[Any], *, after: bytes = b"") -> Any:
            """A verb's answer; the server's first one to it gets lost."""
            before = proxy.swallowed
            if after:
                proxy.swallow_once(after=after)
            else:
                proxy.swallow_once(reply=b"COMMIT\x00")
            answer = await verb
            assert proxy.swallowed == before + 1
            return answer

        try:
            await story(bench, lost)
        finally:
            await bench.close()

    asyncio.run(main())


#: How many replies get lost in each check: a long transaction has to get through some time.
LOSSES = 20 if SOAK else 5

#: Every fifth promise; PERDURE_SOAK=1 takes all. That each verb that changes something is done once is tried above.
SOME = [check for place, check in enumerate(CHECKS) if SOAK or place % 5 == 2]

#: Checks that nothing happens for nothing: but a lost connection makes a store tell of what it may have missed.
TELLING = {"own_changes_are_not_news", "news_are_told_together"}

#: Checks that count permissions of limits: asked again after a lost reply, they are reserved twice and used once.
RESERVING = {
    "a_limit_is_kept_as_it_is",
    "permissions_of_one_batch_are_spaced",
    "all_stores_ask_the_same_bucket",
    "batches_on_several_limits_do_not_lock_each_other_out",
}


@pytest.mark.parametrize("check", SOME, ids=lambda check: check.__name__)
def test_promises_hold_while_replies_get_lost(check: Check, proxy: Proxy, url: str) -> None:
    if check.__name__ in TELLING | RESERVING:
        return
    seed = int(os.environ.get("PERDURE_SEED", "0")) or sum(check.__name__.encode())
    chance = random.Random(seed)
    losses = 0

    def lose(reply: bytes) -> bool:
        nonlocal losses
        if losses == LOSSES or chance.random() > 0.1:
            return False
        losses += 1
        return True

    def make() -> PostgresStore:
        proxy.lose_reply = None
        store = PostgresStore(url)
        opened = store.open

        async def open(on_change: OnChange | None = None) -> None:
            proxy.lose_reply = None
            await opened(on_change)
            proxy.lose_reply = lose

        store.open = open  # type: ignore[method-assign]
        return store

    run_check(check, make)
