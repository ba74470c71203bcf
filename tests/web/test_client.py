"""HttpClient: an engine's client side, over HTTP, with the same errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from test_api import adds, asks_for_a_number, calls_back, fails, talks
from web_kit import BASE, run

import perdure
from perdure import HttpClient
from perdure.web import Access, Role, Tokens, create_app


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
            assert [item["id"] async for item in client.runs(workflow="web.adds")] == ["n", "r"]
            assert [item["id"] async for item in client.runs(status="completed", limit=1)] == ["n"]
            assert (await client.workers())[0]["state"] == "alive"
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
            assert (await handle.info())["status"] == await handle.status() == "completed"
            assert (await handle.why())["causes"][0]["kind"] == "ended"
            assert (await handle.usage())["calls"] == 0
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
            while not (found := await client.questions(run="q")):
                await asyncio.sleep(0.01)
            with pytest.raises(perdure.errors.UnknownQuestionError):
                await client.answer(found[0]["id"] + "x", 1)
            with pytest.raises(perdure.errors.InvalidAnswerError) as unfit:
                await client.answer(found[0]["id"], "many")
            assert "" in unfit.value.problems
            await client.answer(found[0]["id"], 5)
            assert await asked.result() == 5
            waiting = await client.start(calls_back(), id="c")
            async for item in engine.get("c").stream("token"):  # ASGI in process gives whole answers only
                await client.complete(item.value, 7)
                break
            assert await waiting.result() == 7
            with pytest.raises(perdure.UnknownCallbackError):
                await client.fail("nope", "no")

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
