"""Workflows that are started by publications: each, debounced, or in batches."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from perdure.codec.events import decode_event
from perdure.core.events import RunStarted
from perdure.core.where import where_text
from perdure.storage.publications import Distributed, Subscription, number_at
from perdure.storage.records import RunFilter
from perdure.testing.conformance.bench import NOW, Bench, Check
from perdure.testing.conformance.publications import (
    FAR,
    distribute,
    payloads,
    publication,
    publish,
    wait,
    waiting,
)


async def started(bench: Bench, workflow: str = "app.flow") -> list[bytes]:
    """The inputs of a workflow's runs, in order of their creation."""
    inputs: list[bytes] = []
    for row in reversed(await bench.store.find(RunFilter(workflow=workflow, limit=10_000))):
        event = decode_event((await bench.history(row))[0])
        assert isinstance(event, RunStarted)
        inputs.append(event.input)
    return inputs


def subscription(workflow: str = "app.flow", event: str = "paid", **fields: Any) -> Subscription:
    return Subscription(workflow, event, **fields)


async def subscribe(bench: Bench, *subscriptions: Subscription, now: float = NOW) -> None:
    await bench.store.publications.subscribe(subscriptions, now=now)


# -- subscriptions --------------------------------------------------------------------------------------


async def a_subscription_starts_a_run_for_each_publication(bench: Bench) -> None:
    await subscribe(bench, subscription(queue="q"), subscription("app.other", where=where_text({"n": 2})))
    await publish(bench, b'{"n": 1}')
    await distribute(bench)
    await publish(bench, b'{"n": 2}')
    assert await distribute(bench) == Distributed(runs=2)
    assert await started(bench) == [b'[[{"n": 1}],{}]', b'[[{"n": 2}],{}]']
    assert await started(bench, "app.other") == [b'[[{"n": 2}],{}]']
    (row, _) = await bench.store.find(RunFilter(workflow="app.flow"))
    assert (row.queue, row.status, row.wake_at) == ("q", "queued", NOW)


async def a_subscription_begins_when_it_is_made(bench: Bench) -> None:
    await publish(bench, b"1")
    await subscribe(bench, subscription())
    await publish(bench, b"2")
    await distribute(bench)
    assert await started(bench) == [b"[[2],{}]"]


async def a_subscription_made_again_goes_on(bench: Bench) -> None:
    await subscribe(bench, subscription())
    await publish(bench, b"1")
    await subscribe(bench, subscription(queue="other"), now=NOW + 5)
    (standing,) = await bench.store.publications.subscriptions()
    assert (standing.queue, standing.since) == ("other", NOW)
    await distribute(bench)
    assert await started(bench) == [b"[[1],{}]"]


async def a_subscription_to_another_event_begins_anew(bench: Bench) -> None:
    await subscribe(bench, subscription())
    await publish(bench, b"1")
    await publish(bench, b"2", name="refunded")
    await subscribe(bench, subscription(event="refunded"), now=NOW + 5)
    await publish(bench, b"3", name="refunded")
    await distribute(bench)
    assert await started(bench) == [b"[[3],{}]"]


async def a_removed_subscription_starts_nothing(bench: Bench) -> None:
    store = bench.store.publications
    await subscribe(bench, subscription(), subscription("app.b", batch=3, within=5.0))
    await publish(bench, b"1")
    await distribute(bench)
    assert await store.unsubscribe("app.flow")
    assert await store.unsubscribe("app.b")
    assert not await store.unsubscribe("app.b")
    await publish(bench, b"2")
    assert await distribute(bench, FAR) == Distributed()
    assert await store.subscriptions() == []


# -- debouncing and batching ----------------------------------------------------------------------------


async def a_debounced_run_starts_when_it_is_quiet(bench: Bench) -> None:
    await subscribe(bench, subscription(debounce=30.0, by="id"))
    await publish(bench, b'{"id": 1, "v": 1}', at=NOW)
    await publish(bench, b'{"id": 2, "v": 1}', at=NOW + 5)
    await distribute(bench, NOW + 5)
    await publish(bench, b'{"id": 1, "v": 2}', at=NOW + 20)
    assert await distribute(bench, NOW + 20) == Distributed()
    assert (await bench.store.publications.pending(now=NOW + 20)).next_at == NOW + 35
    await distribute(bench, NOW + 35)
    assert await started(bench) == [b'[[{"id": 2, "v": 1}],{}]']
    assert await distribute(bench, NOW + 49) == Distributed()
    await distribute(bench, NOW + 50)
    assert await started(bench) == [b'[[{"id": 2, "v": 1}],{}]', b'[[{"id": 1, "v": 2}],{}]']
    assert await distribute(bench, FAR) == Distributed()


async def a_batch_is_full_or_over_time(bench: Bench) -> None:
    await subscribe(bench, subscription(batch=3, within=5.0))
    for number in range(4):
        await publish(bench, str(number).encode(), at=NOW)
        await distribute(bench)
    assert await started(bench) == [b"[[[0,1,2]],{}]"]
    await publish(bench, b"4", at=NOW + 4)
    await distribute(bench, NOW + 4)
    assert len(await started(bench)) == 1
    await distribute(bench, NOW + 5)
    assert await started(bench) == [b"[[[0,1,2]],{}]", b"[[[3,4]],{}]"]
    assert await distribute(bench, FAR) == Distributed()


async def more_than_a_batch_at_once_is_several(bench: Bench) -> None:
    await subscribe(bench, subscription(batch=4, within=60.0))
    for number in range(10):
        await bench.store.publications.publish([publication(payload=str(number).encode(), at=NOW + number)])
    assert await distribute(bench, NOW + 10) == Distributed(runs=2)
    await distribute(bench, NOW + 100)
    assert await started(bench) == [b"[[[0,1,2,3]],{}]", b"[[[4,5,6,7]],{}]", b"[[[8,9]],{}]"]


# -- all together ---------------------------------------------------------------------------------------


async def several_distribute_at_the_same_time(bench: Bench) -> None:
    others = [bench.store, await bench.another(), await bench.another()]
    await subscribe(bench, subscription(), subscription("app.batch", batch=7, within=60.0))
    rows = [await waiting(bench, f"r{number}", wait(n=number)) for number in range(6)]

    async def worker(number: int) -> None:
        store = others[number].publications
        for index in range(20):
            await store.publish([publication(payload=b'{"n": %d}' % (index % 10))])
            await store.distribute(now=NOW)

    await asyncio.gather(*(worker(number) for number in range(len(others))))
    await until_settled(bench)
    assert len(await started(bench)) == 60
    assert sum(len(items) for items in map(batch_of, await started(bench, "app.batch"))) == 56
    assert [len(await payloads(bench, row)) for row in rows] == [1] * 6


def batch_of(input: bytes) -> Sequence[Any]:

    ((items,), _) = json.loads(input)
    return list(items)


async def until_settled(bench: Bench) -> None:
    while (await bench.store.publications.pending(now=NOW)).due:
        await bench.store.publications.distribute(now=NOW)


async def old_settled_publications_are_forgotten(bench: Bench) -> None:
    store = bench.store.publications
    await publish(bench, b"1", b"2", b"3")
    await distribute(bench, NOW)
    await publish(bench, b"4")
    await distribute(bench, NOW + 100)
    await publish(bench, b"5")
    assert await store.forget(before=number_at(NOW + 100), limit=2) == 2
    assert await store.forget(before=number_at(NOW + 100), limit=2) == 1
    assert await store.forget(before=number_at(NOW + 100), limit=2) == 0
    assert [one.payload for one in await store.find(limit=10)] == [b"5", b"4"]


CHECKS: tuple[Check, ...] = (
    a_subscription_starts_a_run_for_each_publication,
    a_subscription_begins_when_it_is_made,
    a_subscription_made_again_goes_on,
    a_subscription_to_another_event_begins_anew,
    a_removed_subscription_starts_nothing,
    a_debounced_run_starts_when_it_is_quiet,
    a_batch_is_full_or_over_time,
    more_than_a_batch_at_once_is_several,
    several_distribute_at_the_same_time,
    old_settled_publications_are_forgotten,
)
