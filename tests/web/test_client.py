"""HttpClient: an engine's client side, over HTTP, with the same errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from test_api import adds, asks_for_a_number, calls_back, fails, talks, waits_for_a_person
from web_kit import BASE, run

import perdure
from perdure import HttpClient
from perdure.api.budgets import Budgets
from perdure.api.callbacks import Callbacks
from perdure.api.entitylist import EntityList
from perdure.api.limits import Limits
from perdure.api.queues import Queues
from perdure.api.quotas import Quotas
from perdure.api.schedules import ScheduleHandle, Schedules
from perdure.web import Access, Role, Tokens, create_app
from perdure.web.holdings import (
    RemoteBudgets,
    RemoteCallbacks,
    RemoteEntities,
    RemoteLimits,
    RemoteQueues,
    RemoteQuotas,
    RemoteSchedule,
    RemoteSchedules,
)
from perdure.web.remote import RemoteHandle


@dataclass
class Count:
    value: int = 0


@perdure.entity(name="web.Counter")
class Counter:
    state: Count

    async def add(self, by: int) -> int:
        self.state.value += by
        return self.state.value

    @perdure.read
    def value(self) -> int:
        return self.state.value


@perdure.step
async def says() -> None:
    logging.getLogger("web.logged").warning("<b>one</b>")
    logging.getLogger("web.logged").warning("two")


@perdure.workflow(name="web.logs")
async def logs() -> None:
    await says()


@asynccontextmanager
async def served(
    access: Access | None = None, token: str | None = None, **options: Any
) -> AsyncIterator[tuple[perdure.Engine, HttpClient]]:
    async with perdure.Engine("memory:", **options) as engine:
        transport = httpx.ASGITransport(create_app(engine, access))
        async with HttpClient(BASE, token=token, transport=transport) as client:
            yield engine, client


def test_runs_are_started_by_calls_and_by_names() -> None:
    async def main() -> None:
        async with served() as (_, client):
            assert await client.run(adds(20, more=2), id="r") == 42
            assert await client.run("web.adds", 20, id="n") == 40
            with pytest.raises(perdure.RunConflictError, match="other input"):
                await client.start(adds(21), id="r")
            with pytest.raises(perdure.errors.UsageError):
                await client.start("web.adds", "many")
            assert [item.id async for item in client.runs(workflow="web.adds")] == ["n", "r"]
            assert [item.id async for item in client.runs(status="completed", limit=1)] == ["n"]
            assert (await client.workers())[0].state == "alive"
            assert await client.usage("model") == []

    run(main)


def test_a_handle_does_what_handles_do() -> None:
    async def main() -> None:
        async with served() as (_, client):
            handle = await client.start(talks(), id="t/1#2")
            assert await handle.update("note", "one") == 1
            assert await handle.query("so_far") == ["one"]
            with pytest.raises(TimeoutError):
                await handle.result(timeout=0.05)
            await handle.pause("lunch")
            await handle.resume()
            await handle.send("word", "hello", key="k")
            assert await handle.result() == "hello after ['one']"
            assert (await handle.info()).status == await handle.status() == "completed"
            assert (await handle.why()).causes[0].kind == "ended"
            assert (await handle.usage()).calls == 0
            with pytest.raises(perdure.RunEndedError):
                await handle.send("word", "again")
            other = await handle.fork(id="t-2")
            assert await other.result() == "hello after ['one']"
            seen = [event["seq"] async for event in handle.history()]
            assert seen == list(range(1, len(seen) + 1))
            assert [event["seq"] async for event in handle.history(after=2, follow=True)] == seen[2:]

    run(main)


def test_ends_are_told_as_an_engine_tells_them() -> None:
    async def main() -> None:
        async with served() as (_, client):
            failed = await client.start(fails(1), id="f")
            with pytest.raises(perdure.RunFailed, match="<b>no</b>"):
                await failed.result()
            await failed.retry()
            with pytest.raises(perdure.RunFailed):
                await failed.result()
            for end, error in (("cancel", perdure.RunCancelled), ("terminate", perdure.RunTerminated)):
                handle = await client.start(talks(), id=end)
                await getattr(handle, end)("enough")
                with pytest.raises(error):
                    await handle.result()
            with pytest.raises(perdure.UnknownRunError):
                await client.get("none").status()

    run(main)


def test_streams_questions_and_callbacks() -> None:
    async def main() -> None:
        async with served() as (engine, client):
            handle = await client.start(adds(4), id="r")
            assert [item["value"] async for item in handle.stream("numbers")] == [4]
            assert [item["value"] async for item in handle.stream("numbers", after=1)] == []
            asked = await client.start(asks_for_a_number(), id="q")
            while not (found := [each async for each in client.questions(run="q")]):
                await asyncio.sleep(0.01)
            with pytest.raises(perdure.errors.UnknownQuestionError):
                await client.answer(found[0].id + "x", 1)
            with pytest.raises(perdure.errors.InvalidAnswerError) as unfit:
                await client.answer(found[0].id, "many")
            assert "" in unfit.value.problems
            await client.answer(found[0].id, 5)
            assert await asked.result() == 5
            waiting = await client.start(calls_back(), id="c")
            async for item in engine.get("c").stream("token"):  # ASGI in process gives whole answers only
                await client.callbacks.complete(item.value, 7)
                break
            assert await waiting.result() == 7
            with pytest.raises(perdure.UnknownCallbackError):
                await client.callbacks.fail("nope", "no")

    run(main)


#: What an engine has and a client over HTTP hasn't, and why.
NOT_OVER_HTTP = {
    "bound_to": "the token says which namespace one sees, and the server makes sure of it",
    "close": "a client has no engine to close; leaving `async with` closes its connections",
    "collect_blobs": "it works on the place of the blobs, which the server's own workers tidy",
    "entity": "it needs the class of the entity: `call_entity` names it",
    "namespace": "the token says which namespace one sees",
    "partition": "the layout of tables is the database's operator's, before anything is recorded",
    "runs_page": "`runs` turns the pages by itself",
    "store": "the database itself",
    "vacuum": "it works on the server's file for as long as that takes: `perdure disk`",
    "watch": "it observes one process; `/metrics` and `history(follow=True)` tell over HTTP",
}


def test_it_has_what_an_engine_has_for_its_clients() -> None:
    """All but what is listed here with a reason."""
    own = set(NOT_OVER_HTTP)
    assert not {name for name in own if hasattr(HttpClient, name)}, "it has that: take it off the list"
    assert own <= set(dir(perdure.Engine))
    for ours, theirs, left in (
        (HttpClient, perdure.Engine, own),
        (RemoteHandle, perdure.Handle, set[str]()),
        (RemoteQueues, Queues, set()),
        (RemoteLimits, Limits, set()),
        (RemoteQuotas, Quotas, set()),
        (RemoteSchedules, Schedules, set()),
        (RemoteSchedule, ScheduleHandle, set()),
        (RemoteBudgets, Budgets, set()),
        (RemoteCallbacks, Callbacks, set()),
        (RemoteEntities, EntityList, set()),
    ):
        missing = {
            name for name in dir(theirs) if not name.startswith("_") and not hasattr(ours, name)
        } - left
        assert not missing, (ours, missing)


def test_its_answers_are_those_of_an_engine() -> None:
    async def main() -> None:
        async with served(queues=["default"]) as (engine, client):
            await client.start_many([adds(1), adds(2, more=1)], ids=["m1", "m2"], attributes={"team": "red"})
            assert [await client.get(id).result() for id in ("m1", "m2")] == [2, 5]
            named = await client.start_many([("web.adds", [3]), ("web.fails", [1])])
            assert await named[0].result() == 6
            with pytest.raises(perdure.RunFailed):
                await named[1].result()
            assert {run.id async for run in client.runs(attributes={"team": "red"})} == {"m1", "m2"}
            assert await client.get("m1").info() == await engine.get("m1").info()
            assert await client.get("m1").why() == await engine.get("m1").why()
            await client.get("m1").set_attributes(team=None, size=9)
            assert (await client.get("m1").info()).attributes == {"size": 9}
            assert await client.diff("m1", "m2") == await engine.diff("m1", "m2")
            assert await client.usage() == await engine.usage()
            assert [each.name for each in await client.workers()] == [
                each.name for each in await engine.workers()
            ]

            talking = await client.start(talks(), id="t")
            while not (info := await talking.info()).waiting_for or info.status != "waiting":
                await asyncio.sleep(0.01)
            theirs = await engine.get("t").info()
            assert replace(info, waiting_for=()) == replace(theirs, waiting_for=())
            assert [(wait.kind, wait.id) for wait in info.waiting_for] == [("message", "word")]
            assert info.waiting_for[0].since == pytest.approx(theirs.waiting_for[0].since)
            assert await talking.interface() == await engine.get("t").interface()
            deciding = await client.start(waits_for_a_person(1), id="p")
            while not any(wait.kind == "decision" for wait in (await deciding.info()).waiting_for):
                await asyncio.sleep(0.01)
            (wait,) = (await deciding.info()).waiting_for
            with pytest.raises(perdure.NothingToDecideError, match="waits for something else by now"):
                await deciding.resolve(wait.id, result=7, since=wait.since - 1)
            await deciding.resolve("test_api.needs_a_person#1", result=7, why="seen to", since=wait.since)
            assert await deciding.result() == 7
            await client.run(logs(), id="l")
            lines = [line async for line in client.get("l").step_logs(follow=True)]
            assert [line.text for line in lines] == ["<b>one</b>", "two"]
            assert lines == [line async for line in engine.get("l").step_logs()]
            assert [line async for line in client.get("l").step_logs(after=1)] == lines[1:]
            asked = await client.start(asks_for_a_number(), id="q")
            while not (questions := [each async for each in client.questions()]):
                await asyncio.sleep(0.01)
            assert questions == [each async for each in engine.questions()]
            answered = await client.get("q").answer(5)
            assert (
                answered == await client.question(questions[0].id) == await engine.question(questions[0].id)
            )
            assert await asked.result() == 5

    logger = logging.getLogger("web.logged")
    logger.addHandler(handler := perdure.StepLogHandler())
    try:
        run(main)
    finally:
        logger.removeHandler(handler)


def test_what_isnt_one_runs_is_looked_at_and_changed() -> None:
    async def main() -> None:
        async with served(queues=["default"]) as (engine, client):
            await client.queues.set("default", concurrency=5, rate=perdure.Rate(10, per=1.0))
            assert await client.queues.list() == await engine.queues.list()
            await client.queues.pause("default")
            assert (await client.queues.get("default")) == (await engine.queues.get("default"))
            await client.queues.resume("default")
            assert (await client.queues.reset("default")).concurrency is None
            assert await client.queues.get("none") is None

            made = await client.schedules.create("hourly", "web.adds", 1, cron="0 * * * *", paused=True)
            with pytest.raises(perdure.errors.ConfigurationError):
                await client.schedules.create("bad", "web.adds", 1, cron="never")
            assert [await made.info()] == await client.schedules.list() == await engine.schedules.list()
            await made.resume()
            assert await (await made.trigger()).result() == 2
            day = datetime(2026, 1, 1, tzinfo=UTC)
            assert await made.backfill(day, day + timedelta(hours=3)) == 4
            assert (await made.update(every=timedelta(minutes=1))).every == timedelta(minutes=1)
            await made.pause("enough")
            assert (await made.info()).reason == "enough"
            await made.delete()
            with pytest.raises(perdure.errors.UnknownScheduleError):
                await made.info()

            assert await client.publish("paid", {"order": 1}, key="o-1")
            assert not await client.publish("paid", {"order": 1}, key="o-1")
            assert [each async for each in client.publications("paid")] == [
                each async for each in engine.publications("paid")
            ]
            assert await client.subscriptions() == await engine.subscriptions()
            assert await client.awaited() == await engine.awaited()
            assert not await client.unsubscribe("nobody")

            assert await client.limits.list() == await engine.limits.list()
            await client.limits.block("api", 60)
            assert await client.limits.get("api") == await engine.limits.get("api")
            await client.limits.unblock("api")
            await client.limits.reset("api")
            assert await client.budgets.list() == await engine.budgets.list()
            with pytest.raises(perdure.errors.UsageError):
                await client.budgets.raise_by("none", usd="1.50")

            assert await client.call_entity("web.Counter", "c/1", "add", [2]) == 2
            assert await client.call_entity("web.Counter", "c/1", "add", kwargs={"by": 3}, key="k") == 5
            assert await client.call_entity("web.Counter", "c/1", "add", [3], key="k") == 5
            assert await client.call_entity("web.Counter", "c/1", "value") == 5
            for wrong in (("web.None", "add"), ("web.Counter", "none")):
                with pytest.raises(perdure.errors.UsageError):
                    await client.call_entity(wrong[0], "c/1", wrong[1])
            with pytest.raises(perdure.errors.UsageError):
                await client.call_entity("web.Counter", "c/1", "add", ["many"])

    run(main)


@perdure.workflow(name="web.listens")
async def listens() -> list[str]:
    return [await perdure.receive("word", str), await perdure.receive("word", str)]


def test_runs_start_with_messages_and_are_put_off() -> None:
    async def main() -> None:
        async with served() as (_, client):
            words = [("word", "one"), perdure.Message("word", "two", "k")]
            assert await client.run(listens(), messages=words) == ["one", "two"]
            for handle in await client.start_many([listens(), ("web.listens", ())], messages=words):
                assert await handle.result() == ["one", "two"]

            first = await client.start(adds(1), dedup="d", debounce=1.0, debounce_max=timedelta(hours=2))
            second = await client.start(adds(2), dedup="d", debounce=0.1)
            assert (first.id, await second.result()) == (second.id, 4)
            with pytest.raises(perdure.errors.UsageError, match="debounce= takes the place of delay="):
                await client.start(adds(1), dedup="d", debounce=1, delay=1)

    run(main)


def test_the_past_and_the_possible_are_shown() -> None:
    async def main() -> None:
        async with served() as (engine, client):
            handle = await client.start(adds(1), id="g")
            assert await handle.result() == 2
            again = await client.start(adds(1), id="g", if_exists="restart")
            assert await again.result() == 2
            past = [event async for event in handle.history(generation=1)]
            assert [event["seq"] for event in past] == list(range(1, len(past) + 1))
            with pytest.raises(perdure.UnknownRunError):
                _ = [event async for event in handle.history(generation=7)]
            with pytest.raises(perdure.errors.UsageError, match="leave out generation="):
                _ = [event async for event in handle.history(generation=1, follow=True)]
            there = engine.get("g")
            assert await handle.fork(dry_run=True) == await there.fork(dry_run=True)

    run(main)


def test_what_is_kept_and_what_goes() -> None:
    async def main() -> None:
        ring = perdure.Encryption({"k1": bytes(32)})
        async with served(codec=ring) as (engine, client):
            assert await client.retention() == await engine.retention()
            told, known = await client.health(), await engine.health()
            assert (told.live, told.ready, [*told.reasons]) == (known.live, known.ready, [*known.reasons])
            await client.run(adds(1), id="old", subject="customer-1")
            (many,) = await client.start_many([adds(1)], ids=["many"], subject="customer-2")
            assert await many.result() == 2
            assert (await client.erase(subject="customer-1")) == perdure.Erased(1, ())
            assert (await client.erase(subject="customer-1")) == perdure.Erased(0, ())
            with pytest.raises(perdure.errors.UsageError, match="either subject= or run="):
                await client.erase()
            with pytest.raises(perdure.UnknownRunError):
                await client.erase(run="none")
            rules = [perdure.Retention(0, workflow="web.adds", status="completed"), perdure.Retention(None)]
            assert await client.prune(rules, dry=True) == await engine.prune(rules, dry=True)
            done = await client.prune(rules)
            assert done is not None
            assert (done.runs, done.kinds) == (2, {("web.adds", "completed"): 2})
            with pytest.raises(perdure.UnknownRunError):
                await client.get("old").status()
            with pytest.raises(perdure.errors.UsageError, match="archives"):
                await client.prune([perdure.Retention(0, archive="file:///var/old")])
            with pytest.raises(perdure.errors.ConfigurationError, match="status"):
                await client.request(
                    "POST", "/retention/prune", json={"rules": [{"after": 0, "status": ["x"]}]}
                )
        async with served() as (_, client):
            with pytest.raises(perdure.errors.UsageError, match="doesn't encrypt"):
                await client.erase(subject="customer-1")
            with pytest.raises(perdure.errors.ConfigurationError, match="encrypts nothing"):
                await client.start(adds(1), subject="customer-1")

    run(main)


def test_who_isnt_known_and_who_isnt_there() -> None:
    async def main() -> None:
        tokens = Tokens()
        token = tokens.issue("ci", Role.OPERATOR)
        async with served(Access(tokens=tokens), token) as (_, client):
            assert await client.run(adds(1)) == 2
        async with served(Access(tokens=tokens)) as (_, client):
            with pytest.raises(perdure.PerdureError, match="Say who you are"):
                await client.run(adds(1))
        async with HttpClient("http://127.0.0.1:9") as client:
            with pytest.raises(perdure.errors.StoreUnavailableError, match="Is it up"):
                await client.workers()
            with pytest.raises(perdure.errors.StoreUnavailableError, match="Is it up"):
                async for _ in client.get("r").stream("numbers"):
                    pass

    run(main)
