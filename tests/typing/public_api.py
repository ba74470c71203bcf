"""What the type checkers must know about the public API. Checked by mypy --strict and pyright, never run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_type

import perdure
from perdure import (
    Call,
    Callback,
    ChildHandle,
    Engine,
    Handle,
    ItemStatus,
    MapResult,
    Rate,
    RateLimit,
    Retry,
    RunInfo,
    Status,
    StreamItem,
    WorkerInfo,
    step,
    workflow,
)


@dataclass
class Report:
    pages: list[str]


@step
async def fetch(url: str, *, tries: int = 1) -> str:
    return url * tries


API = RateLimit("api", requests=Rate(5, per=1), tokens=Rate(100, per=1))


def tokens_of(prompt: str) -> int:
    return len(prompt)


@step(limit=[API.cost(tokens=tokens_of), RateLimit("other", units=Rate(1, per=1))])
async def asks(prompt: str) -> str:
    perdure.settle(API, tokens=3)
    return prompt


@step
def analyse(page: str) -> Report:
    return Report([page])


@step(retry=Retry(max_attempts=3), timeout=30.0, name="typing.slow")
async def slow(number: int) -> bytes:
    return bytes(number)


@step(timeout=5)
def slow_in_thread(number: int) -> dict[str, int]:
    return {"number": number}


async def was_charged(card: str, cents: int) -> perdure.Done[str] | None:
    return perdure.Done("receipt")


@step(once=True, verify=was_charged, heartbeat_timeout=30)
async def charge(card: str, cents: int) -> str:
    perdure.heartbeat({"cents": cents})
    return card


@step(transaction=lambda: None)
def sell(connection: object, item: str) -> int:
    return len(item)


@step(transaction=lambda: None, retry=Retry(on_exhausted="block"), name="typing.sell")
async def sell_async(connection: object, item: str, *, cents: int = 1) -> Report:
    return Report([item])


@step
async def nothing() -> None:
    return None


@step
async def find(name: str) -> str | None:
    return name or None


@step
async def is_there(name: str) -> bool:
    return bool(name)


async def twice(number: int) -> int:
    return 2 * number


@workflow
async def research(topic: str) -> Report:
    assert_type(asks(topic), Call[str])
    assert_type(asks.with_options(limit=API)(topic), Call[str])
    assert_type(fetch(topic), Call[str])
    assert_type(await fetch(topic, tries=2), str)
    assert_type(await analyse(topic), Report)
    assert_type(await slow(3), bytes)
    assert_type(await slow_in_thread(3), dict[str, int])
    assert_type(await fetch.with_options(key="k", timeout=1.0)(topic), str)
    assert_type(await fetch.with_options(on_cancel="wait")(topic), str)
    async with perdure.Saga() as saga:
        assert_type(saga, perdure.Saga)
        saga.undo(fetch(topic))
        saga.undo(analyse(topic))
    assert_type(await analyse.with_options(retry=Retry())(topic), Report)
    await nothing()

    first, second = await asyncio.gather(fetch("a"), analyse("b"))
    assert_type(first, str)
    assert_type(second, Report)
    assert_type(await asyncio.gather(*(fetch(url) for url in "abc")), list[str])
    task = asyncio.create_task(fetch("a"))
    assert_type(task, asyncio.Task[str])
    async with asyncio.TaskGroup() as tasks:
        grouped = tasks.create_task(analyse("a"))
        assert_type(grouped, asyncio.Task[Report])
        assert_type(tasks.create_task(slow(1)), asyncio.Task[bytes])
    assert_type(await asyncio.wait_for(fetch("a"), 5), str)
    assert_type(await asyncio.shield(asyncio.ensure_future(fetch("a"))), str)
    for one in asyncio.as_completed([fetch("a"), fetch("b")]):
        assert_type(await one, str)

    assert_type(await perdure.receive("report", Report), Report)
    assert_type(await perdure.receive("names", list[str], timeout=5), list[str])
    assert_type(await perdure.receive("anything"), Any)
    assert_type(await perdure.event("report", Report, where={"kind": "x"}, timeout=5), Report)
    assert_type(await perdure.event("anything"), Any)
    assert_type(asyncio.create_task(perdure.event("n", int)), asyncio.Task[int])
    assert_type(await asyncio.wait_for(perdure.receive("n", int), 5), int)
    assert_type(asyncio.create_task(perdure.receive("n", int)), asyncio.Task[int])
    await perdure.until(lambda: bool(first), timeout=timedelta(hours=1))
    await perdure.send("other", "n", 1)

    assert_type(await count("x"), int)
    child = await perdure.start(count("x"), on_parent_close="abandon")
    assert_type(child, ChildHandle[int])
    assert_type(await child.result(), int)
    assert_type(perdure.random(), float)

    assert_type(charge("card", 1), Call[str])
    assert_type(await sell("book"), int)
    assert_type(sell_async("book", cents=2), Call[Report])
    approval = perdure.callback(Report, timeout=60)
    assert_type(await perdure.ask("Sure?"), bool)
    assert_type(await perdure.ask("What?", Report, details="x", to="ann", timeout=5), Report)
    assert_type(await perdure.ask("What?", Report, timeout=5, on_timeout=None), Report | None)
    assert_type(await perdure.ask("Which?", choices=["a", "b"]), Any)
    assert_type(await perdure.ask_approval("tool", {"x": 1}, key="c"), perdure.ToolApproval)
    assert_type(await perdure.approve(fetch("a"), "Fetch?", editable=True), str)
    assert_type(approval, Callback[Report])
    assert_type(approval.token, str)
    assert_type(await approval, Report)
    assert_type(await asyncio.wait_for(approval, 5), Report)
    assert_type(await asyncio.gather(approval, fetch("a")), tuple[Report, str])

    assert_type(await perdure.map(fetch, ["a"]), MapResult[str])
    assert_type(await perdure.map(analyse, (text for text in "ab"), concurrency=2), MapResult[Report])
    assert_type(await perdure.map(count, ["a"], min_successful=1), MapResult[int])
    mapped = await perdure.map(twice, [1, 2], max_failure_ratio=0.5)
    assert_type(mapped, MapResult[int])
    assert_type(list(mapped), list[int | None])
    assert_type(mapped.statuses, list[ItemStatus])
    assert_type(await perdure.poll(lambda: find("a"), every=1), str)
    assert_type(await perdure.poll(lambda: is_there("a"), every=1, timeout=5), bool)
    return grouped.result()


@workflow(name="typing.handled")
async def handled() -> int:
    numbers: list[int] = []

    @perdure.on_query
    def total(scale: int = 1) -> int:
        return sum(numbers) * scale

    def check(number: int) -> None: ...

    @perdure.on_update
    async def add(number: int) -> int:
        numbers.append(number)
        return len(numbers)

    @perdure.on_update(validator=check)
    def remove(number: int) -> None:
        numbers.remove(number)

    assert_type(total(), int)
    assert_type(await add(1), int)
    assert_type(remove(1), None)
    assert_type(perdure.on_query(total)(scale=2), int)
    assert_type(await perdure.on_update(add, check)(3), int)
    return total()


@workflow(name="typing.count", guard=False)
async def count(text: str) -> int:
    return len(text)


@perdure.entity
class Cart:
    state: dict[str, int]

    async def add(self, item: str, *, count: int = 1) -> int:
        return count

    @perdure.read
    def items(self) -> list[str]:
        return list(self.state)


@workflow
async def shops() -> int:
    return await perdure.entity(Cart, "user-7").add("apple", count=2)


async def main() -> None:
    async with Engine("memory:") as engine:
        assert_type(engine, Engine)
        assert_type(await engine.run(research("x"), id="r", timeout=5), Report)
        handle = await engine.start(count("x"))
        assert_type(handle, Handle[int])
        assert_type(await handle.result(timeout=1.0), int)
        assert_type(await handle.status(), Status)
        await engine.callbacks.complete("token", Report([]))
        async for question in engine.questions(to="ann"):
            assert_type(question, perdure.QuestionInfo)
            assert_type(await engine.answer(question.id, True, by="ann"), perdure.QuestionInfo)
        await engine.callbacks.fail("token", "no")
        await engine.callbacks.heartbeat("token")
        assert_type(await handle.info(), RunInfo)
        await handle.resolve("charge", result="receipt", by="ann", why="seen")
        await handle.resolve("charge", fail=True)
        many = await engine.start_many([count("a"), count("b")], ids=["a", "b"])
        assert_type(many, list[Handle[int]])
        async for info in engine.runs(status="failed"):
            assert_type(info, RunInfo)
        async for info in engine.runs(
            attributes={"customer": "x", "total": (">=", 1), "n": [(">", 1), ("<", 3)]}
        ):
            assert_type(info.id, str)
        async for item in handle.stream("words", after=3):
            assert_type(item, StreamItem[Any])
        async for report in handle.stream("reports", type=Report):
            assert_type(report.value, Report)
        assert_type(await handle.query("total", scale=2), Any)
        assert_type(await handle.update("add", 1, key="k", timeout=5), Any)
        await handle.set_attributes(customer=None, tags=["a"])
        assert_type(await engine.workers(), list[WorkerInfo])
        assert_type(perdure.patched("change"), bool)
        cart = engine.entity(Cart, "user-7", key="order-1", timeout=5)
        assert_type(await cart.add("apple"), int)
        assert_type(await cart.items(), list[str])
        schedule = await engine.schedules.create("s", count("x"), cron="0 3 * * *", overlap="buffer_one")
        assert_type(schedule, perdure.ScheduleHandle)
        assert_type(await schedule.info(), perdure.ScheduleInfo)
        assert_type(await schedule.trigger(), Handle[Any])
        assert_type(await engine.schedules.list(), list[perdure.ScheduleInfo])
        ingest = perdure.Queue("ingest", concurrency=5, rate=perdure.Rate(100, per=60), fairness="key")
        queued = await engine.start(
            count("x"), queue=ingest, key="t", priority=3, dedup="d", debounce=1, debounce_max=9
        )
        assert_type(queued, Handle[int])
        assert_type(
            await engine.start_many([count("a")], queue="ingest", keys=["t"], dedups=[None]),
            list[Handle[int]],
        )
        assert_type(await engine.queues.list(), list[perdure.QueueInfo])
        assert_type(await engine.queues.get(ingest), perdure.QueueInfo | None)
        assert_type(await engine.queues.set("ingest", concurrency=None), perdure.QueueInfo)
        await engine.queues.drain(ingest, wait=True)
        change = perdure.Change({"text": "y"}, text={"a": "b"})
        fork = await handle.fork(input=count("y"), edits={"f#*": change}, effects="stub", stubs={"g": 1})
        assert_type(fork, Handle[int])
        assert_type(await handle.fork(input=change, dry_run=True), perdure.ForkPlan)
        told = await engine.diff("a", "b", generations=(1, None))
        assert_type(told, perdure.RunDiff)
        assert_type(told.changed, tuple[perdure.StepDiff, ...])


assert_type(perdure.run(research("x"), url="memory:"), Report)
