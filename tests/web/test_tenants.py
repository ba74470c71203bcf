"""Whoever has a namespace's token sees that namespace: each route is tried against what another one has.

A route is asked for what the other namespace has and for what nobody has, and must answer both alike. `BODIES` has what
is sent; a route of the API that isn't on it fails the test.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from web_kit import BASE, run, serving

import perdure
from perdure.web import Access, Proxy, Role, Tokens, create_app
from perdure.web.agents import mcp_server
from perdure.web.hooks import Hook
from perdure.web.signatures import new_secret, sign

CANARY = "hunter2"


@perdure.workflow(name="tenants.waits")
async def waits(text: str) -> str:
    perdure.on_query(told)
    perdure.set_attributes(who=text)
    perdure.emit("log", text)
    promise = perdure.callback(str)
    perdure.emit("tokens", promise.token)
    question = asyncio.create_task(perdure.ask(f"Is it {text}?", bool))
    await perdure.receive("go", str)
    question.cancel()
    return text


def told() -> str:
    return CANARY


@perdure.workflow(name="tenants.quick")
async def quick(text: str) -> str:
    return text


#: What is sent to a route; None: nothing. The names in braces are filled in.
BODIES: dict[str, Any] = {
    "POST /runs": {"workflow": "tenants.quick", "args": ["x"], "id": "{fresh}"},
    "GET /runs": None,
    "POST /runs/{id}/messages/{name}": {"value": 1},
    "POST /runs/{id}/queries/{name}": {},
    "POST /runs/{id}/updates/{name}": {"timeout": 1},
    "POST /runs/{id}/cancel": {},
    "POST /runs/{id}/terminate": {},
    "POST /runs/{id}/pause": {},
    "POST /runs/{id}/resume": None,
    "POST /runs/{id}/retry": None,
    "POST /runs/{id}/fork": {},
    "POST /runs/{id}/steps/{step}/resolve": {"rerun": True},
    "PATCH /runs/{id}/attributes": {"attributes": {"x": 1}},
    "GET /runs/{id}/events": None,
    "GET /runs/{id}/streams/{name}": None,
    "GET /workers": None,
    "GET /queues": None,
    "POST /queues/{name}/{action}": None,
    "PUT /queues/{name}": {"concurrency": 1},
    "GET /limits": None,
    "POST /limits/{name}/block": {"seconds": 60},
    "POST /limits/{name}/unblock": None,
    "POST /limits/{name}/reset": None,
    "GET /schedules": None,
    "PUT /schedules/{name}": {"workflow": "tenants.quick", "args": ["x"], "every": 3600},
    "PATCH /schedules/{name}": {"every": 60},
    "DELETE /schedules/{name}": None,
    "POST /schedules/{name}/backfill": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"},
    "POST /schedules/{name}/pause": {},
    "POST /schedules/{name}/resume": None,
    "POST /schedules/{name}/trigger": None,
    "GET /entities": None,
    "GET /entities/{kind}": None,
    "POST /callbacks/{token}/complete": {"value": "stolen"},
    "POST /callbacks/{token}/fail": {"message": "stolen"},
    "POST /callbacks/{token}/heartbeat": None,
    "GET /cost": None,
    "GET /overview": None,
    "GET /disk": None,
    "GET /why": None,
    "GET /questions": None,
    "GET /questions/{id}": None,
    "POST /questions/{id}/answer": {"value": True},
    "GET /budgets": None,
    "POST /budgets/{name}/raise": {"usd": "1"},
    "POST /budgets/{name}/close": None,
    "PUT /budgets/{name}": {"usd": "1"},
    "DELETE /budgets/{name}": None,
    "POST /budgets/{name}/reset": None,
    "GET /runs/{id}/at/{seq}": None,
    "GET /runs/{id}/changes": None,
    "POST /batches": {"runs": [{"workflow": "tenants.quick", "args": ["x"], "id": "{fresh}"}]},
    "GET /diff": None,
    "GET /quotas": None,
    "GET /health": None,
    "GET /retention": None,
    "POST /retention/prune": {"rules": [{"after": 0}]},
    "POST /erasures": {"run": "{id}"},
    "PUT /quotas/{namespace}": {"runs": 5},
    "DELETE /quotas/{namespace}": None,
    "GET /publications": None,
    "POST /publications/{name}": {"payload": 1},
    "GET /subscriptions": None,
    "DELETE /subscriptions/{workflow}": None,
    "GET /awaited": None,
    "POST /entities/{type}/{id}/{method}": {},
    "GET /workflows": None,
    "GET /runs/{id}/history": None,
    "GET /runs/{id}/result": None,
    "GET /runs/{id}/why": None,
    "GET /runs/{id}/usage": None,
    "GET /runs/{id}/streams": None,
    "GET /runs/{id}/interface": None,
    "GET /runs/{id}": None,
}

QUERIES = {
    "GET /runs": {"cursor": "{cursor}", "text": ":acme/"},
    "GET /runs/{id}/changes": {"name": "x", "seq": 1},
    "GET /runs/{id}/result": {"timeout": 0.1},
    "GET /runs/{id}/streams/{name}": {"follow": "false"},
    "GET /diff": {"a": "{id}", "b": "{id}"},
    "GET /cost": {"run": "{id}"},
    "GET /publications": {"name": ":acme/{name}"},
    "GET /questions": {"run": "{id}", "open": "false"},
}


def tenants() -> tuple[Access, dict[str, str]]:
    made = Tokens()
    given = {
        name: made.issue(name, Role.ADMIN, namespace=None if name == "root" else name)
        for name in ("acme", "beta", "root")
    }
    return Access(tokens=made), given


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def fill(engine: perdure.Engine) -> dict[str, str]:
    """What acme has: names for the placeholders of paths."""
    acme = engine.namespace("acme")
    handle = await acme.start(waits(CANARY), id="theirs-run")
    token = None
    async for item in handle.stream("tokens", type=str):
        token = item.value
        break
    questions: list[Any] = []
    while not questions:
        questions = [question async for question in acme.questions()]
        await asyncio.sleep(0.01)
    await acme.run(quick(CANARY), id="theirs-done")
    await acme.publish("theirs-name", CANARY, key="k")
    await acme.schedules.create("theirs-name", quick(CANARY), every=3600)
    page = await acme.runs_page(size=1)
    return {
        "id": "theirs-run",
        "name": "theirs-name",
        "token": str(token),
        "cursor": str(page.next),
        "question": questions[0].id,
    }


NOBODYS = {
    "id": "nobody-run",
    "name": "nobody-name",
    "token": "cb_" + "A" * 43,
    "cursor": "7fffffffffff",
    "question": "q_aaaaaaaaaaaaaaaa",
}


def filled(value: Any, names: dict[str, str]) -> Any:
    text = json.dumps(value)
    for name, known in names.items():
        text = text.replace("{" + name + "}", known)
    return json.loads(text.replace("{fresh}", "mine").replace("{step}", "s#1").replace("{action}", "pause"))


def routes() -> list[tuple[str, str]]:
    front: Any = create_app(perdure.Engine("memory:"), dashboard=False)._app
    found = front.api.openapi()["paths"]
    return [
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in found.items()
        if path.startswith("/api/v1")
        for method in operations
    ]


def test_every_route_is_tried() -> None:
    assert {f"{method} {path}" for method, path in routes()} == set(BODIES)


async def asked(client: Any, route: str, names: dict[str, str], token: str) -> str:
    """What a route answers, with what names the thing taken out."""
    method, path = route.split()
    own = {**names, "id": names["question"]} if path.startswith("/questions/") else names
    where = filled(
        path,
        {**own, "seq": "1", "kind": "tenants.waits", "workflow": "tenants.waits", "type": "x", "method": "y"},
    )
    answer = await client.request(
        method,
        "/api/v1" + where,
        json=filled(BODIES[route], own),
        params=filled(QUERIES.get(route, {}), own),
        headers=bearer(token),
    )
    assert answer.status_code != 500, (route, answer.text)
    assert CANARY not in answer.text, (route, answer.text)
    text = f"{answer.status_code} {answer.text}"
    for kind, known in names.items():
        text = text if kind == "cursor" else text.replace(known, "IT")
    return re.sub(r'"\d{4}-[^"]+"|0x\w+|\d+(\.\d+)?', "N", text)


async def history(acme: Any) -> list[str]:
    """The events of acme's run, but for the note that it waits, which comes by itself."""
    found = [repr(event) async for event in acme.get("theirs-run").history()]
    return [event for event in found if not event.startswith("MessageAwaited")]


def test_what_another_namespace_has_is_what_nobody_has() -> None:
    async def main() -> None:
        access, token = tenants()
        async with serving(access=access) as (engine, client):
            theirs = await fill(engine)
            acme = engine.namespace("acme")
            before = await history(acme)
            for route in BODIES:
                if "GET /overview" in route:
                    continue
                one = await asked(client, route, theirs, token["beta"])
                assert one == await asked(client, route, NOBODYS, token["beta"]), route
            assert await history(acme) == before, "something reached a run of another namespace"
            told = (await client.get("/api/v1/overview", headers=bearer(token["beta"]))).json()
            assert CANARY not in str(told)
            # beta made runs, a schedule and a publication under acme's names; acme's are as they were
            assert (await acme.schedules.get("theirs-name").info()).fired == 0
            assert [one.payload async for one in acme.publications("theirs-name")] == [CANARY]
            await acme.get("theirs-run").send("go", "go")
            assert await acme.get("theirs-run").result() == CANARY

    run(main)


def test_the_owner_and_the_operator_see_it() -> None:
    async def main() -> None:
        access, token = tenants()
        async with serving(access=access) as (engine, client):
            await fill(engine)

            async def seen(who: str, path: str) -> Any:
                return (await client.get(f"/api/v1{path}", headers=bearer(token[who]))).json()

            mine, all_ = await seen("acme", "/runs"), await seen("root", "/runs")
            assert {item["id"] for item in mine["runs"]} == {"theirs-run", "theirs-done"}
            assert {item["id"] for item in all_["runs"]} == {":acme/theirs-run", ":acme/theirs-done"}
            assert (await seen("root", "/runs/:acme/theirs-run"))["id"] == ":acme/theirs-run"
            assert (await seen("acme", "/runs/theirs-run"))["id"] == "theirs-run"
            assert (await seen("beta", "/runs"))["runs"] == []
            answer = await client.get("/metrics", headers=bearer(token["acme"]))
            assert answer.status_code == 403
            answer = await client.put(
                "/api/v1/queues/default", json={"concurrency": 1}, headers=bearer(token["acme"])
            )
            assert answer.status_code == 403

    run(main)


def test_nothing_in_a_request_names_a_namespace() -> None:
    async def main() -> None:
        access, token = tenants()
        async with serving(access=access) as (engine, client):
            await fill(engine)
            for headers in ({"x-namespace": "acme"}, {"namespace": "acme"}, {"x-perdure-namespace": "acme"}):
                answer = await client.get(
                    "/api/v1/runs",
                    params={"namespace": "acme", "within": ":acme/"},
                    headers=bearer(token["beta"]) | headers,
                )
                assert answer.json()["runs"] == []
            body = {"workflow": "tenants.quick", "args": ["x"], "id": "mine", "namespace": "acme"}
            await client.post("/api/v1/runs", json=body, headers=bearer(token["beta"]))
            assert [one.id async for one in engine.namespace("acme").runs() if one.id == "mine"] == []

    run(main)


def test_a_session_is_of_its_token_s_namespace() -> None:
    tokens = Tokens()
    token = tokens.issue("ann", Role.ADMIN, namespace="acme")
    access = Access(tokens=tokens)
    session = access.log_in(token)
    who = access.of_session(session)
    assert who is not None
    assert who.namespace == "acme"
    tokens.issue("ann", Role.ADMIN, namespace="beta")  # the name goes on, elsewhere
    assert access.of_session(session) is None
    tokens.issue("ann", Role.ADMIN)
    assert access.of_session(session) is None


def test_a_proxy_says_which_namespace_only_if_it_is_asked() -> None:
    plain = Proxy("x-user", {"*": Role.VIEWER})
    asks = Proxy("x-user", {"*": Role.VIEWER}, namespace_header="x-tenant")
    who = plain.who("ann", "127.0.0.1", "acme")
    assert who is not None
    assert who.namespace is None
    found = {
        said: asks.who("ann", "127.0.0.1", said)
        for said in ("acme", "*", None, "", "A", "a/b", ":acme", "acme/")
    }
    assert {said: who and who.namespace for said, who in found.items()} == {
        "acme": "acme", "*": None, None: None, "": None, "A": None, "a/b": None, ":acme": None, "acme/": None,
    }  # fmt: skip
    assert [said for said, who in found.items() if who is not None] == ["acme", "*"]
    assert asks.who("ann", "10.0.0.1", "acme") is None

    async def main() -> None:
        async with serving(access=Access(proxy=asks)) as (engine, client):
            await fill(engine)
            for tenant, count in (("acme", 2), ("beta", 0), ("*", 2)):
                answer = await client.get("/api/v1/runs", headers={"x-user": "ann", "x-tenant": tenant})
                assert len(answer.json()["runs"]) == count
            assert (await client.get("/api/v1/runs", headers={"x-user": "ann"})).status_code == 401

    run(main)


def test_a_hook_does_what_it_does_in_its_namespace() -> None:
    secret = new_secret()
    hook = Hook("pays", quick, secrets=secret, namespace="acme")

    async def main() -> None:
        import httpx

        async with perdure.Engine("memory:") as engine:
            transport = httpx.ASGITransport(create_app(engine, hooks=[hook]))
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                body = b'"paid"'
                headers = sign(body, secret, id="d-1")
                answer = await client.post("/hooks/pays", content=body, headers=headers)
                assert answer.status_code == 202, answer.text
            assert (await engine.runs_page()).runs[0].id.startswith(":acme/")
            assert len([one async for one in engine.namespace("acme").runs()]) == 1

    run(main)


def test_agents_see_one_namespace() -> None:
    """Each tool is asked by another namespace's agent for what acme has."""

    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            names = await fill(engine)
            server = mcp_server(engine.namespace("beta"), Role.OPERATOR)  # type: ignore[arg-type]
            tools = await server.list_tools()
            assert len(tools) > 5
            for tool in tools:
                given: dict[str, Any] = {}
                for name, schema in tool.input_schema.get("properties", {}).items():
                    if name in tool.input_schema.get("required", ()):
                        given[name] = _some(name, schema, names)
                try:
                    told = str(await server.call_tool(tool.name, given))
                except Exception as error:
                    told = str(error)
                assert CANARY not in told, tool.name
            theirs = engine.namespace("acme").get("theirs-run")
            while (status := await theirs.status()) == "running":
                await asyncio.sleep(0.01)  # it says that it waits once its driver is done
            assert status == "waiting"

    run(main)


def _some(name: str, schema: dict[str, Any], names: dict[str, str]) -> Any:
    if name in ("id", "run", "a", "b"):
        return names["id"]
    if name == "question":
        return names["question"]
    return {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(
        schema.get("type", ""), names["name"]
    )
