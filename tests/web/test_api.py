"""The HTTP API, from starting a run to forking it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from web_kit import BASE, Client, run, serving

import perdure
from perdure import step, workflow
from perdure.web import Access, Tokens, create_app

API = "/api/v1"


@step
async def doubled(x: int) -> int:
    perdure.emit("numbers", x)
    return x * 2


@step(retry=perdure.Retry(max_attempts=1, on_exhausted="block"))
async def needs_a_person(x: int) -> int:
    raise ValueError(f"can't do {x}")


@workflow(name="web.adds")
async def adds(x: int, *, more: int = 0) -> int:
    perdure.set_attributes(size=x)
    return await doubled(x) + more


@workflow(name="web.talks")
async def talks() -> str:
    heard: list[str] = []

    def so_far() -> list[str]:
        return heard

    def note(word: str) -> int:
        heard.append(word)
        return len(heard)

    perdure.on_query(so_far)
    perdure.on_update(note)
    word = await perdure.receive("word", str)
    return f"{word} after {heard}"


@workflow(name="web.fails")
async def fails(x: int) -> int:
    await doubled(x)
    raise ValueError("<b>no</b>")


@workflow(name="web.waits")
async def waits_for_a_person(x: int) -> int:
    return await needs_a_person(x)


@workflow(name="web.calls_back")
async def calls_back() -> Any:
    ready = perdure.callback(int)
    perdure.emit("token", ready.token)
    return await ready


async def ok(client: Client, method: str, path: str, **options: Any) -> Any:
    answer = await client.request(method, API + path, **options)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


async def ended(client: Client, id: str) -> Any:
    while (told := await ok(client, "GET", f"/runs/{id}/result", params={"wait": 10}))["status"] in (
        "queued",
        "running",
        "waiting",
    ):
        pass
    return told


def test_a_run_is_started_and_looked_at() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            body = {"workflow": "web.adds", "args": [20], "kwargs": {"more": 2}, "id": "r-1", "key": "acme"}
            assert await ok(client, "POST", "/runs", json=body) == {"id": "r-1"}
            assert await ended(client, "r-1") == {"status": "completed", "result": 42, "error": None}
            assert await ok(client, "POST", "/runs", json=body) == {"id": "r-1"}, "starting is idempotent"
            told = await ok(client, "GET", "/runs/r-1")
            assert (told["status"], told["key"], told["attributes"]) == ("completed", "acme", {"size": 20})
            history = await ok(client, "GET", "/runs/r-1/history")
            assert [event["kind"] for event in history["events"]][0::3] == ["run_started", "run_completed"]
            first = await ok(client, "GET", "/runs/r-1/history", params={"size": 2})
            rest = await ok(client, "GET", "/runs/r-1/history", params={"after": first["next"]})
            assert [*first["events"], *rest["events"]] == history["events"]
            assert (await ok(client, "GET", "/runs/r-1/why"))["causes"][0]["kind"] == "ended"
            assert (await ok(client, "GET", "/runs/r-1/usage"))["cost"] == "0"
            other = await client.post(f"{API}/runs", json={**body, "args": [21]})
            assert (other.status_code, other.json()["type"]) == (409, "urn:perdure:error:RunConflictError")
            assert other.headers["content-type"] == "application/problem+json"

    run(main)


def test_lists_are_filtered_and_turned_over() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            handles = await engine.start_many([adds(n) for n in range(7)], ids=[f"a-{n}" for n in range(7)])
            await asyncio.gather(*(handle.result() for handle in handles))
            failed = await engine.start(fails(1), id="f")
            with pytest.raises(perdure.RunFailed):
                await failed.result()
            seen: list[str] = []
            cursor = None
            while True:
                asked = {"size": 3, "workflow": "web.adds"} | ({"cursor": cursor} if cursor else {})
                page = await ok(client, "GET", "/runs", params=asked)
                seen += [item["id"] for item in page["runs"]]
                cursor = page["next"]
                if cursor is None:
                    break
            assert seen == [f"a-{n}" for n in reversed(range(7))]
            found = await ok(client, "GET", "/runs", params={"status": ["failed", "blocked"]})
            assert [item["id"] for item in found["runs"]] == ["f"]
            found = await ok(client, "GET", "/runs", params={"attribute": ["size>=2", "size<4"]})
            assert [item["id"] for item in found["runs"]] == ["a-3", "a-2"]
            assert (found["total"], found["more"]) == (None, False)
            found = await ok(
                client, "GET", "/runs", params={"workflow": "web.adds", "size": 2, "count": True}
            )
            assert (len(found["runs"]), found["total"], found["more"]) == (2, 7, False)
            first = (await ok(client, "GET", "/runs/a-0"))["created_at"]
            found = await ok(client, "GET", "/runs", params={"until": first, "count": True})
            assert (found["runs"], found["total"]) == ([], 0)
            assert {"web.adds", "web.fails"} <= set(await ok(client, "GET", "/workflows"))
            for wrong in (
                {"cursor": "zz"},
                {"size": 0},
                {"attribute": "size"},
                {"since": "2026-01-01T00:00:00"},
                {"until": "2026-01-01T00:00:00"},
            ):
                answer = await client.get(f"{API}/runs", params=wrong)
                assert answer.status_code == 422, wrong
                assert answer.json()["detail"]

    run(main)


def test_a_run_is_talked_to() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            await ok(client, "POST", "/runs", json={"workflow": "web.talks", "id": "t/1"})
            assert await ok(client, "POST", "/runs/t/1/updates/note", json={"args": ["one"]}) == {"value": 1}
            assert await ok(client, "POST", "/runs/t/1/queries/so_far", json={}) == {"value": ["one"]}
            await ok(client, "POST", "/runs/t/1/messages/word", json={"value": "hello", "key": "k"})
            assert (await ended(client, "t/1"))["result"] == "hello after ['one']"
            missing = await client.post(f"{API}/runs/t/1/queries/nothing", json={})
            assert (missing.status_code, "so_far" in missing.json()["detail"]) == (404, True)
            late = await client.post(f"{API}/runs/t/1/messages/word", json={"value": "again"})
            assert late.status_code == 409

    run(main)


def test_a_run_is_operated() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            for id in ("c", "t", "p"):
                await ok(client, "POST", "/runs", json={"workflow": "web.talks", "id": id})
            await ok(client, "POST", "/runs/c/cancel", json={"reason": "enough"})
            assert (await ended(client, "c"))["status"] == "cancelled"
            await ok(client, "POST", "/runs/t/terminate", json={})
            assert (await ended(client, "t"))["error"]["type"] == "RunTerminated"
            await ok(client, "POST", "/runs/p/pause", json={"reason": "lunch"})
            while (await ok(client, "GET", "/runs/p"))[
                "status"
            ] != "paused":  # once its driver has heard of it
                await asyncio.sleep(0.01)
            assert "lunch" in (await ok(client, "GET", "/runs/p/why"))["causes"][0]["what"]
            await ok(client, "POST", "/runs/p/resume")
            await ok(client, "POST", "/runs/p/messages/word", json={"value": "x"})
            assert (await ended(client, "p"))["status"] == "completed"
            await ok(client, "POST", "/runs", json={"workflow": "web.fails", "args": [5], "id": "f"})
            failed = await ended(client, "f")
            assert (failed["status"], "<b>no</b>" in failed["error"]["message"]) == ("failed", True)
            await ok(client, "POST", "/runs/f/retry")
            assert (await ended(client, "f"))["status"] == "failed"
            plan = (await ok(client, "POST", "/runs/f/fork", json={"dry_run": True}))["plan"]
            assert plan
            made = await ok(client, "POST", "/runs/p/fork", json={"id": "p-2"})
            assert made["id"] == "p-2"
            await ok(client, "PATCH", "/runs/p/attributes", json={"attributes": {"checked": True}})
            assert (await ok(client, "GET", "/runs/p"))["attributes"] == {"checked": True}

    run(main)


async def waited_for(handle: perdure.Handle[Any], times: int) -> list[float | None]:
    """When the attempts began of which a person is told, or decides, once the run has asked so many times."""
    kinds = perdure.events.StepParked, perdure.events.StepRerun
    while True:
        found = [event async for event in handle.history() if isinstance(event, kinds)]
        if sum(isinstance(event, perdure.events.StepParked) for event in found) >= times:
            return [event.started_at for event in found]
        await asyncio.sleep(0.01)


def test_a_step_that_waits_for_a_person_is_decided() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await ok(client, "POST", "/runs", json={"workflow": "web.waits", "args": [1], "id": "w"})
            while (await ok(client, "GET", "/runs/w"))["status"] != "blocked":
                await asyncio.sleep(0.01)
            (waiting,) = (await ok(client, "GET", "/runs/w"))["waiting_for"]
            path = f"/runs/w/steps/{waiting['id'].replace('#', '%23')}/resolve"
            await ok(client, "POST", path, json={"rerun": True, "since": waiting["since"]})
            about = await waited_for(engine.get("w"), 2)
            assert about[0] == about[1] != about[2], "it is about that attempt, and about no later one"
            late = await client.post(API + path, json={"result": 7, "since": waiting["since"]})
            assert (late.status_code, late.json()["type"]) == (409, "urn:perdure:error:NothingToDecideError")
            assert "waits for something else by now" in late.json()["detail"]
            assert (
                await client.post(API + path, json={"result": 7, "since": "2026-01-01T00:00:00"})
            ).status_code == 422
            while (await ok(client, "GET", "/runs/w"))["status"] != "blocked":
                await asyncio.sleep(0.01)
            (waiting,) = (await ok(client, "GET", "/runs/w"))["waiting_for"]
            body = {"result": 7, "why": "counted by hand", "since": waiting["since"]}
            await ok(client, "POST", path, json=body)
            assert (await ended(client, "w"))["result"] == 7
            events = [event async for event in engine.get("w").history()]
            assert "local" in repr(events), "the history tells who decided"

    run(main)


def test_callbacks_are_completed() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            handle = await engine.start(calls_back(), id="c")
            async for item in handle.stream("token"):
                token = item.value
                break
            await ok(client, "POST", f"/callbacks/{token}/heartbeat")
            await ok(client, "POST", f"/callbacks/{token}/complete", json={"value": 9})
            assert await handle.result() == 9
            again = await client.post(f"{API}/callbacks/{token}/complete", json={"value": 10})
            assert again.status_code in (409, 410)
            assert (await client.post(f"{API}/callbacks/nope/complete", json={})).status_code == 404

    run(main)


async def told(client: Client, path: str, **options: Any) -> list[tuple[str, str | None, Any]]:
    """What a stream of events says until it ends: (event, id, data)."""
    found: list[tuple[str, str | None, Any]] = []
    fields: dict[str, str] = {}
    async with client.stream("GET", API + path, **options) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if not line and fields:
                found.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
                fields = {}
            elif line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
    return found


def test_events_and_streams_go_on_behind_what_was_read() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(adds(4), id="r")
            whole = await told(client, "/runs/r/events")
            assert [event for event, _, _ in whole] == ["event"] * (len(whole) - 1) + ["end"]
            assert [id for _, id, _ in whole[:-1]] == [str(n + 1) for n in range(len(whole) - 1)]
            assert whole[-1][2] == {"status": "completed"}
            rest = await told(client, "/runs/r/events", headers={"Last-Event-ID": "2"})
            assert rest == whole[2:]
            items = await told(client, "/runs/r/streams/numbers")
            assert [(event, data.get("value")) for event, _, data in items] == [("item", 4), ("end", None)]
            assert await told(client, "/runs/r/streams/numbers", headers={"Last-Event-ID": "1"}) == items[1:]
            assert (await client.get(f"{API}/runs/none/events")).status_code == 404
            assert (
                await client.get(f"{API}/runs/r/events", headers={"Last-Event-ID": "x"})
            ).status_code == 422

    run(main)


def test_the_fleet_is_looked_at_and_changed() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.schedules.create("hourly", adds(1), every=3600)
            (worker,) = await ok(client, "GET", "/workers")
            assert (worker["state"], "web.adds" in worker["workflows"]) == ("alive", True)
            assert "default" in [queue["name"] for queue in await ok(client, "GET", "/queues")]
            assert (await ok(client, "POST", "/queues/default/pause"))["paused"]
            assert not (await ok(client, "POST", "/queues/default/resume"))["paused"]
            await ok(client, "POST", "/limits/openai:gpt-5/block", json={"seconds": 60})
            (limit,) = await ok(client, "GET", "/limits")
            assert (limit["name"], limit["blocked_until"] is not None) == ("openai:gpt-5", True)
            await ok(client, "POST", "/limits/openai:gpt-5/unblock")
            (schedule,) = await ok(client, "GET", "/schedules")
            assert (schedule["name"], schedule["every"], len(schedule["next"])) == ("hourly", 3600.0, 5)
            assert (await ok(client, "POST", "/schedules/hourly/pause", json={"reason": "x"}))["paused"]
            assert not (await ok(client, "POST", "/schedules/hourly/resume"))["paused"]
            made = await ok(client, "POST", "/schedules/hourly/trigger")
            assert (await ended(client, made["id"]))["result"] == 2
            await ok(client, "DELETE", "/schedules/hourly")
            assert await ok(client, "GET", "/schedules") == []
            assert (await client.post(f"{API}/schedules/none/resume")).status_code == 404
            assert await ok(client, "GET", "/cost", params={"by": "model"}) == []
            bounds = {"since": "2026-01-01T00:00:00Z", "until": "2026-02-01T00:00:00Z"}
            (spent,) = await ok(client, "GET", "/cost", params=bounds)
            assert (spent["name"], spent["removed"], spent["usage"]["calls"]) == (None, False, 0)
            bad = await client.get(f"{API}/cost", params={"until": "2026-02-01T00:00:00"})
            assert "no time zone" in bad.text

    run(main)


def test_what_isnt_known_here_is_started_all_the_same() -> None:
    async def main() -> None:
        async with serving(worker=False) as (_, client):
            await ok(client, "POST", "/runs", json={"workflow": "elsewhere.flow", "args": [1], "id": "e"})
            assert (await ok(client, "GET", "/runs/e"))["workflow"] == "elsewhere.flow"
            unfit = await client.post(f"{API}/runs", json={"workflow": "web.adds", "args": ["many"]})
            assert (unfit.status_code, unfit.json()["type"]) == (422, "urn:perdure:error:UsageError")
            misspelt = await client.post(f"{API}/runs", json={"workflow": "web.adds", "arg": [1]})
            assert (misspelt.status_code, "arg" in misspelt.json()["detail"]) == (422, True)

    run(main)


@workflow(name="web.asks_for_a_number")
async def asks_for_a_number() -> int:
    return await perdure.ask("How many?", int, to="ada")


@step(spends=perdure.Spend("some-model", cost="0.02"))
async def dear() -> int:
    perdure.record_usage(model="some-model", input_tokens=1, output_tokens=1, cost="0.02")
    return 1


@workflow(name="web.poor", budget=perdure.Budget(usd="0.01", name="pocket money"))
async def poor() -> int:
    return await dear()


def test_people_answer_and_raise() -> None:
    async def main() -> None:
        async with serving() as (_, client):
            await ok(client, "POST", "/runs", json={"workflow": "web.asks_for_a_number", "id": "q"})
            while not (found := await ok(client, "GET", "/questions", params={"to": "ada"})):
                await asyncio.sleep(0.01)
            path = f"/questions/{found[0]['id']}"
            unfit = await client.post(f"{API}{path}/answer", json={"value": "many"})
            assert (unfit.status_code, bool(unfit.json()["errors"])) == (422, True)
            answered = await ok(client, "POST", f"{path}/answer", json={"value": 3})
            assert (answered["state"], answered["answered_by"], answered["via"]) == (
                "answered",
                "local",
                "http",
            )
            assert (await ended(client, "q"))["result"] == 3
            assert (await client.post(f"{API}{path}/answer", json={"value": 4})).status_code == 409
            assert (await client.get(f"{API}/questions/none")).status_code == 404
            await ok(client, "POST", "/runs", json={"workflow": "web.poor", "id": "p"})
            while (await ok(client, "GET", "/runs/p"))["status"] != "blocked":
                await asyncio.sleep(0.01)
            budgets = {budget["name"]: budget for budget in await ok(client, "GET", "/budgets")}
            assert budgets["pocket money"]["accounts"][0]["usd"] == "0.01"
            await ok(client, "POST", "/budgets/pocket money/raise", json={"usd": "1.5"})
            assert (await ended(client, "p"))["result"] == 1
            assert (await client.post(f"{API}/budgets/none/raise", json={"usd": "1"})).status_code == 422

    run(main)


def test_it_is_mounted_in_another_application() -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            outer = FastAPI()
            outer.mount("/perdure", create_app(engine))
            transport = httpx.ASGITransport(outer)
            async with httpx.AsyncClient(transport=transport, base_url=f"{BASE}/perdure") as client:
                await ok(client, "POST", "/runs", json={"workflow": "web.adds", "args": [1], "id": "m"})
                assert (await ended(client, "m"))["result"] == 2
                assert (await client.post("/api/v1/queues/default/pause")).status_code == 200
            access = Access(tokens=Tokens())
            outer.mount("/closed", create_app(engine, access))
            async with httpx.AsyncClient(transport=transport, base_url=f"{BASE}/closed") as client:
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/api/v1/runs")).status_code == 401

    run(main)


def test_forks_take_edited_arguments_and_withhold_effects() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(adds(1, more=5), id="r")
            other = {"input": {"args": [2], "kwargs": {"more": 1}}, "id": "other"}
            await ok(client, "POST", "/runs/r/fork", json=other)
            assert (await ended(client, "other"))["result"] == 5
            given = {"inputs": {f"{__name__}.doubled#1": {"args": [10]}}, "id": "given"}
            await ok(client, "POST", "/runs/r/fork", json=given)
            assert (await ended(client, "given"))["result"] == 25
            stubbed = {"effects": "stub", "id": "stubbed", "stubs": {"doubled": 7}, "input": {"args": [3]}}
            await ok(client, "POST", "/runs/r/fork", json=stubbed)
            assert (await ended(client, "stubbed"))["status"] == "completed"
            answer = await client.post(f"{API}/runs/r/fork", json={"stubs": {"doubled": 7}})
            assert answer.status_code == 422

    run(main)


def test_streams_are_listed() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.run(adds(1), id="r")
            assert await ok(client, "GET", "/runs/r/streams") == [{"name": "numbers", "newest": 1}]
            assert await engine.get("r").streams() == [("numbers", 1)]
            assert (await client.get(f"{API}/runs/nobody/streams")).status_code == 404

    run(main)


def test_an_interface_tells_what_can_be_said() -> None:
    async def main() -> None:
        async with serving() as (engine, client):
            await engine.start(talks(), id="t")
            while not (await engine.get("t").info()).waiting_for:
                await asyncio.sleep(0.01)
            found = await ok(client, "GET", "/runs/t/interface")
            assert found["messages"] == {"word": {"type": "string"}}
            assert list(found["updates"]["note"]["properties"]) == ["word"]
            assert set(found["queries"]) == {"so_far"}
            assert (await client.get(f"{API}/runs/nobody/interface")).status_code == 404

    run(main)
