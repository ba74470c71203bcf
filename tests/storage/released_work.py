"""What a released version leaves in a database, and how any later one goes on with it.

    python tests/storage/released_work.py sqlite:///file.db     prepares it, and dies with everything under way

Names are given by hand, since histories hold them: this file may move, and the code grow around it. What is prepared
here must stay as it is for the releases that are kept; a new feature gets a new workflow.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import perdure
from perdure import (
    Budget,
    Engine,
    Event,
    Queue,
    Quota,
    Rate,
    RateLimit,
    Retention,
    Retry,
    Spend,
    step,
    workflow,
)
from perdure.storage.checkpoints import ChannelValue, ChannelWrite, CheckpointRow

LINE = Queue("released-line", concurrency=1, per_key=1)
API = RateLimit("released-api", requests=Rate(100, per=60), tokens=Rate(10_000, per=60))
DAILY = Budget(usd=100, per="day", name="released-daily")

#: The bodies of steps that were executed in this process, by name and argument.
BODIES: Counter[str] = Counter()

#: Steps that fail at first succeed once this is set.
MENDED = False


@step(name="released.add")
async def add(first: int, second: int) -> int:
    BODIES[f"add {first} {second}"] += 1
    return first + second


@step(name="released.fails", retry=Retry(max_attempts=1))
async def fails(number: int) -> int:
    BODIES[f"fails {number}"] += 1
    if not MENDED:
        raise ValueError("not yet")
    return number


@step(name="released.paid", spends=Spend(cost=Decimal("0.03")), limit=API.cost(tokens=10))
async def paid(text: str) -> str:
    BODIES[f"paid {text}"] += 1
    perdure.record_usage(model="m", input_tokens=10, cost="0.01")
    return text.upper()


@step(name="released.far", queue="released-elsewhere")
async def far(number: int) -> int:
    BODIES[f"far {number}"] += 1
    return number * 10


@step(name="released.once", once=True)
async def once(number: int) -> int:
    BODIES[f"once {number}"] += 1
    if not MENDED:
        await asyncio.Event().wait()
    return number


@step(name="released.long", spends=Spend(cost=Decimal("0.05")))
async def long() -> str:
    """Never ends in the release's process, which dies meanwhile."""
    perdure.heartbeat({"at": 1})
    perdure.emit("steps", {"half": True})
    if not MENDED:
        await asyncio.Event().wait()
    return "long"


@workflow(name="released.done")
async def done(number: int) -> int:
    perdure.set_attributes(kind="sums", size=number, tags=["a", "b"])
    perdure.emit("items", {"n": number})
    return await add(number, 1)


@workflow(name="released.failed")
async def failed(number: int) -> int:
    return await add(number, 1) + await fails(number)


@workflow(name="released.sleeps")
async def sleeps(number: int) -> int:
    first = await add(number, 1)
    await asyncio.sleep(1.0)
    return await add(first, 1)


@workflow(name="released.hears")
async def hears(number: int) -> list[Any]:
    first = await add(number, 1)
    early = await perdure.receive("early")
    return [first, early, await perdure.receive("go", int), perdure.patched("released-change")]


@workflow(name="released.parent")
async def parent(number: int) -> list[Any]:
    first = await add(number, 1)
    return [first, await hears(number)]


@workflow(name="released.calls")
async def calls() -> Any:
    callback = perdure.callback(int)
    perdure.set_attributes(token=callback.token)
    return await callback


@workflow(name="released.asks")
async def asks() -> bool:
    return await perdure.ask("Ship it?", details="released")


@workflow(name="released.listens")
async def listens() -> int:
    heard = await perdure.event("released-news", where={"n": 2})
    number: int = heard["n"]
    return number


@workflow(name="released.each", on=Event("released-news"))
async def each(news: dict[str, int]) -> int:
    return news["n"]


@workflow(name="released.together", on=Event("released-news", batch=3, within=timedelta(days=3650)))
async def together(news: list[dict[str, int]]) -> list[int]:
    return sorted(one["n"] for one in news)


@workflow(name="released.far_flow")
async def far_flow(number: int) -> int:
    return await far(number)


@workflow(name="released.pays", budget=Budget(usd=1, name="released-run"))
async def pays() -> list[str]:
    first = await paid("a")
    await perdure.receive("go")
    return [first, await paid("b")]


@workflow(name="released.forgotten")
async def forgotten() -> str:
    return await paid("c")


@workflow(name="released.careful")
async def careful(number: int) -> int:
    return await once(number)


@workflow(name="released.lasting")
async def lasting() -> str:
    return await long()


@workflow(name="released.renewed")
async def renewed(number: int) -> int:
    if number:
        perdure.continue_as(renewed(number - 1))
    await perdure.receive("go")
    return await add(number, 7)


@workflow(name="released.cart")
async def cart() -> list[str]:
    items: list[str] = []
    closed = asyncio.Event()

    @perdure.on_query
    def content() -> list[str]:
        return items

    @perdure.on_update
    async def put(item: str) -> int:
        items.append(item)
        return await add(len(items), 0)

    @perdure.on_update
    def close() -> int:
        closed.set()
        return len(items)

    await closed.wait()
    return items


@workflow(name="released.mapped")
async def mapped() -> list[int]:
    perdure.patched("released-mapped")
    found = await perdure.map(lambda number: add(number, 0), [41, 42, 43])
    await perdure.receive("go")
    return [value for value in found if value is not None]


@dataclass
class CounterState:
    number: int = 0
    names: list[str] = field(default_factory=list)


@perdure.entity(name="released.Counting")
class Counting:
    state: CounterState

    async def count(self, name: str) -> int:
        self.state.number = await add(self.state.number, 1)
        self.state.names.append(name)
        return self.state.number

    @perdure.read
    def names(self) -> list[str]:
        return self.state.names


QUEUES = ["default", LINE]

_BEGUN = (perdure.events.StepStarted, perdure.events.TimerStarted)


def options(*, all_queues: bool) -> dict[str, Any]:
    """Of an engine that goes on; steps in the other queue wait for one that serves it."""
    return {"queues": [*QUEUES, *(["released-elsewhere"] if all_queues else [])], "budgets": [DAILY]}


async def _until(engine: Engine, id: str, *statuses: str) -> None:
    async with asyncio.timeout(60):
        while str((await engine.get(id).info()).status) not in statuses:
            await asyncio.sleep(0.01)


async def keep_checkpoint(store: Any) -> None:
    """As LangGraph's saver does."""
    row = CheckpointRow("thread", "", "c1", None, "g1", {"messages": "1"}, b"{}", b"state")
    await store.checkpoints.put(row, [ChannelValue("messages", "1", b"hello")])
    await store.checkpoints.put_writes("thread", "", "c1", [ChannelWrite("t", 0, "messages", "", b"more")])


async def kept_checkpoint(store: Any) -> list[bytes]:
    found = await store.checkpoints.get("thread", "", None)
    return [found.row.data, *(value.data for value in found.values), *(write.data for write in found.writes)]


async def prepare(engine: Engine) -> None:
    """Everything that a version can leave behind, under way."""
    await engine.run(forgotten(), id="forgotten")
    await engine.prune([Retention(0, workflow="released.forgotten")])
    await engine.run(done(51), id="done")
    failure = await engine.start(failed(2), id="failed")
    await _until(engine, failure.id, "failed")
    await engine.start(hears(4), id="hears", key="k")
    await engine.get("hears").send("early", {"a": 1}, key="once")
    await engine.get("hears").send("unread", "kept")
    await engine.start(parent(5), id="parent")
    await engine.start(calls(), id="calls")
    await engine.start(asks(), id="asks")
    await engine.start(listens(), id="listens")
    await engine.start(far_flow(6), id="far")
    await engine.start(pays(), id="pays")
    await engine.start(renewed(2), id="renewed")
    await engine.start(mapped(), id="mapped")
    for number in range(3):
        await engine.start(hears(100 + number), id=f"line{number}", queue=LINE.name, key=f"k{number}")
    await engine.start(done(9), id="later", delay=1.0, dedup="nightly")
    await engine.start(cart(), id="cart")
    assert await engine.get("cart").update("put", "tea", key="first") == 1
    assert await engine.entity(Counting, "c").count("one") == 1
    await engine.publish("released-news", {"n": 1}, key="first")
    await engine.schedules.create("released-daily", done(3), cron="0 3 * * *", jitter=5.0, paused=True)
    acme = engine.namespace("acme")
    await engine.quotas.set("acme", Quota(runs=10))
    await acme.start(hears(200), id="hears", key="k")
    await acme.schedules.create("nightly", done(5), cron="0 4 * * *", paused=True)
    await _until(acme, "hears", "waiting")
    await engine.start(hears(7), id="paused")
    for id in ("hears", "parent", "calls", "asks", "listens", "pays", "renewed", "mapped", "paused", "line0"):
        await _until(engine, id, "waiting")
    await engine.get("paused").pause("for later")
    await _until(engine, "paused", "paused")
    await engine.get("paused").send("early", "paused")  # kept until it goes on
    await keep_checkpoint(engine._store)
    await engine.start(hears(8), id="cancelled")
    await engine.get("cancelled").cancel("not needed")
    await engine.start(hears(8), id="terminated")
    await engine.get("terminated").terminate("nor this")
    await _until(engine, "cancelled", "cancelled")
    fork = await engine.get("done").fork(id="fork")
    assert await fork.result(timeout=60) == 52
    await engine.start(sleeps(30), id="sleeps")
    await engine.start(careful(1), id="careful")
    await engine.start(lasting(), id="lasting")
    async with asyncio.timeout(60):
        for id in ("careful", "lasting", "sleeps"):
            while not any([isinstance(event, _BEGUN) async for event in engine.get(id).history()]):
                await asyncio.sleep(0.01)
        (row,) = await engine._store.get(["lasting"])
        assert row is not None
        while not (await engine._store.load([row.run]))[0].details:  # what its heartbeat told
            await asyncio.sleep(0.01)


async def go_on(engine: Engine) -> dict[str, Any]:
    """Let everything come to its end, with MENDED set. Returns what came of it."""
    found: dict[str, Any] = {}
    async with asyncio.timeout(60):
        assert await engine.entity(Counting, "c").names() == ["one"]
        assert await engine.get("cart").query("content") == ["tea"]
        found["again"] = await engine.get("cart").update("put", "tea", key="first")
        found["put"] = await engine.get("cart").update("put", "milk")
        await engine.get("cart").update("close")
        found["entity"] = await engine.entity(Counting, "c").count("two")
        await engine.get("failed").retry()
        await engine.get("paused").resume()
        for id in ("line0", "line1", "line2"):
            await engine.get(id).send("early", id)
        children = [run.id async for run in engine.runs(workflow="released.hears") if run.parent == "parent"]
        for id in children:
            await engine.get(id).send("early", "child")
        for id in ("hears", "paused", "line0", "line1", "line2", "pays", "renewed", "mapped", *children):
            await engine.get(id).send("go", 5)
        token = (await engine.get("calls").info()).attributes["token"]
        await engine.callbacks.complete(str(token), 11)
        async for question in engine.questions():
            await engine.answer(question.id, True, by="ann")
        for number in (2, 3):
            await engine.publish("released-news", {"n": number})
        await _until(engine, "careful", "blocked")
        found["careful"] = str((await engine.get("careful").info()).reason)
        await engine.get("careful").terminate("asked, and let go")
        names = ("done", "failed", "sleeps", "hears", "parent", "calls", "asks", "listens", "far", "pays", "lasting",
                 "renewed", "mapped", "line0", "line1", "line2", "later", "cart", "paused", "fork")  # fmt: skip
        for id in names:
            found[id] = await engine.get(id).result()
        found["statuses"] = {id: str(await engine.get(id).status()) for id in ("cancelled", "terminated")}
        found["items"] = [item.value async for item in engine.get("done").stream("items")]
        found["history"] = len([event async for event in engine.get("done").history()])
        for name, count in (("released.each", 3), ("released.together", 1)):
            while True:
                runs = [run async for run in engine.runs(workflow=name)]
                if len(runs) == count and all(run.status.final for run in runs):
                    break
                await asyncio.sleep(0.02)
            found[name] = sorted([str(await engine.get(run.id).result()) for run in runs])
        acme = engine.namespace("acme")
        await acme.get("hears").send("early", "acme")
        await acme.get("hears").send("go", 6)
        found["acme"] = [await acme.get("hears").result(), [run.id async for run in acme.runs()]]
        quota = await engine.quotas.get("acme")
        found["acme quota"] = None if quota is None else [quota.quota.runs, quota.runs]
        found["acme schedules"] = [schedule.name for schedule in await acme.schedules.list()]
        found["checkpoint"] = await kept_checkpoint(engine._store)
        schedule = await engine.schedules.get("released-daily").info()
        found["schedule"] = schedule.paused
        found["kinds"] = sorted([run.id async for run in engine.runs(attributes={"kind": "sums"})])
    return found


#: What comes of it, whichever version goes on.
EXPECTED: dict[str, Any] = {
    "again": 1,
    "put": 2,
    "entity": 2,
    "done": 52,
    "failed": 5,
    "sleeps": 32,
    "hears": [5, {"a": 1}, 5, True],
    "parent": [6, [6, "child", 5, True]],
    "calls": 11,
    "asks": True,
    "listens": 2,
    "far": 60,
    "pays": ["A", "B"],
    "lasting": "long",
    "renewed": 7,
    "mapped": [41, 42, 43],
    "line0": [101, "line0", 5, True],
    "line1": [102, "line1", 5, True],
    "line2": [103, "line2", 5, True],
    "later": 10,
    "cart": ["tea", "milk"],
    "paused": [8, "paused", 5, True],
    "fork": 52,
    "statuses": {"cancelled": "cancelled", "terminated": "terminated"},
    "items": [{"n": 51}],
    "released.each": ["1", "2", "3"],
    "released.together": ["[1, 2, 3]"],
    "acme": [[201, "acme", 6, True], ["hears"]],
    "acme quota": [10, 0],
    "acme schedules": ["nightly"],
    "checkpoint": [b"state", b"hello", b"more"],
    "schedule": True,
    "kinds": ["done", "fork", "later"],
}

#: Bodies whose outcome the release has recorded: nobody may execute them again.
RECORDED = (
    *(
        "add 51 1",
        "add 2 1",
        "add 4 1",
        "add 5 1",
        "add 7 1",
        "add 200 1",
        "add 30 1",
        "add 100 1",
        "add 1 0",
    ),
    *("add 41 0", "add 42 0", "add 43 0", "add 0 1", "paid a"),
)


async def die_in_the_middle(url: str) -> None:
    async with Engine(url, name="released", version="r1", **options(all_queues=False)) as engine:
        await prepare(engine)
        print(json.dumps(sorted(BODIES)), flush=True)
        os._exit(0)  # as by kill -9: nothing is handed back


if __name__ == "__main__":
    asyncio.run(die_in_the_middle(sys.argv[1]))
