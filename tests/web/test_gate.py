"""Who gets in: every way is tried by those who mustn't, and the log says what was changed."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nicegui
import pytest
from starlette.routing import Mount
from starlette.types import Message
from web_kit import BASE, Client, run, serving

import perdure
from perdure.errors import ConfigurationError
from perdure.web import Access, Role, Tokens, create_app
from perdure.web.access import Proxy, Who
from perdure.web.app import Front
from perdure.web.gate import COOKIE

PUBLIC = {"/healthz": 200, "/readyz": 200, "/login": 200, "/logout": 303}
SIGNED = {("POST", "/hooks/n")}
PLACES = {"id": "r", "seq": "1", "name": "n", "step": "s", "token": "t", "action": "pause"}


def walk(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path, of routers within routers, and whatever isn't one of those is told, too."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from walk(inner.routes, prefix + route.include_context.prefix)
            continue
        path = prefix + route.path
        if isinstance(route, Mount):
            path += "/"
            yield from walk(route.routes, prefix + route.path)
        for name, place in PLACES.items():
            path = path.replace("{" + name + ":path}", place).replace("{" + name + "}", place)
        path = re.sub(r"{\w+(:path)?}", "x", path)
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, path


def calls() -> list[tuple[str, str]]:
    """Every method and path that the application has, OpenAPI's own and the dashboard's included."""
    front = create_app(perdure.Engine("memory:"))._app
    assert isinstance(front, Front)
    return [*walk(front.api.router.routes), *walk(nicegui.app.routes)]


def test_the_walk_sees_the_routes() -> None:
    found = calls()
    assert len(found) > 50
    assert ("POST", "/api/v1/runs/r/terminate") in found
    assert ("GET", "/runs") in found
    assert ("GET", "/_nicegui_ws/") in found
    assert ("GET", "/api/v1/openapi.json") in found
    assert all("{" not in path for _, path in found)


def tokens() -> tuple[Access, dict[Role, str]]:
    made = Tokens()
    given = {role: made.issue(role.name.lower(), role) for role in Role}
    return Access(tokens=made), given


def test_nobody_gets_in_unknown() -> None:
    async def main() -> None:
        access, _ = tokens()
        async with serving(access=access) as (_, client):
            for method, path in calls():
                for headers in ({}, {"Authorization": "Bearer pdt_wrong"}, {"Cookie": f"{COOKIE}=wrong"}):
                    answer = await client.request(method, path, headers=headers)
                    if path in PUBLIC:
                        expected = 401 if (method, path) == ("POST", "/login") else PUBLIC[path]
                        assert answer.status_code == expected, f"{method} {path}"
                    else:
                        assert answer.status_code == 401, f"{method} {path} let {headers} in"
                        assert answer.headers["content-type"] == "application/problem+json"

    run(main)


async def closed_with(path: str, headers: list[tuple[bytes, bytes]]) -> int:
    """The code with which a web socket is turned away, or 0 if it got in."""
    app = create_app(perdure.Engine("memory:"), tokens()[0])
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0].get("code", 0))


@pytest.mark.parametrize("path", ["/_nicegui_ws/socket.io/", "/runs", "/api/v1/runs"])
def test_web_sockets_come_past_the_same_place(path: str) -> None:
    async def main() -> None:
        here = (b"host", b"127.0.0.1:8700")
        assert await closed_with(path, [here]) == 1008
        assert await closed_with(path, [here, (b"authorization", b"Bearer pdt_wrong")]) == 1008
        assert await closed_with(path, [here, (b"origin", b"https://evil.example.org")]) == 1008
        assert await closed_with(path, [(b"host", b"evil.example.org")]) == 1008

    run(main)


def test_people_are_led_to_the_login_page_and_back_within_this_server_only() -> None:
    async def main() -> None:
        access, given = tokens()
        async with serving(access=access) as (_, client):
            people = {"Accept": "text/html,*/*"}
            led = await client.get("/runs?text=a%20b", headers=people)
            assert (led.status_code, led.headers["location"]) == (303, "/login?to=%2Fruns%3Ftext%3Da%2520b")
            assert (await client.get("/api/v1/runs", headers=people)).status_code == 401
            shown = await client.get("/login?to=%22%3E%3Cscript%3E")
            assert "<script" not in shown.text
            for to, lands in (
                ("/runs?text=a%20b", "/runs?text=a%20b"),
                ("https://evil.example.org", "/"),
                ("//evil.example.org", "/"),
                ("/\\evil.example.org", "/"),
                ("/\n/evil.example.org", "/"),
            ):
                form = {"token": given[Role.VIEWER]}
                answer = await client.post("/login", params={"to": to}, data=form, headers={"Origin": BASE})
                assert (answer.status_code, answer.headers["location"]) == (303, lands)
                cookie = answer.headers["set-cookie"].lower()
                assert "httponly" in cookie
                assert "samesite=lax" in cookie
            evil = {"Origin": "https://evil.example.org"}
            assert (await client.post("/login", data=form, headers=evil)).status_code == 403
            assert (await client.post("/login", content=b"token=" + b"x" * 5000)).status_code == 401

    run(main)


def test_what_a_page_does_for_somebody_passes_the_gate(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            gate = create_app(engine, tokens()[0])
            path = "/api/v1/queues/default/pause"
            viewer, admin = Who("vera", Role.VIEWER), Who("ada", Role.ADMIN)
            refused = await gate.ask(viewer, "POST", path)
            assert (refused.status_code, refused.json()["type"]) == (403, "urn:perdure:error:Forbidden")
            assert (await gate.ask(admin, "POST", path)).status_code == 200

    with caplog.at_level(logging.INFO, "perdure.audit"):
        run(main)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "perdure.audit"]
    assert [(line["who"], line["status"]) for line in lines] == [("vera", 403), ("ada", 200)]


def test_looking_isnt_changing() -> None:
    async def main() -> None:
        access, given = tokens()
        async with serving(access=access) as (_, client):
            for method, path in calls():
                if method in ("GET", "HEAD") or (method, path) in SIGNED or path in PUBLIC:
                    continue
                viewer = {"Authorization": f"Bearer {given[Role.VIEWER]}"}
                answer = await client.request(method, path, headers=viewer, json={})
                assert answer.status_code == 403, f"{method} {path}"
                operator = {"Authorization": f"Bearer {given[Role.OPERATOR]}"}
                answer = await client.request(method, path, headers=operator, json={})
                for_all = path.split("/")[3] in (
                    "queues",
                    "limits",
                    "schedules",
                    "budgets",
                    "quotas",
                    "subscriptions",
                    "retention",
                    "erasures",
                )
                assert (answer.status_code == 403) == for_all, f"{method} {path}"

    run(main)


def test_each_role_may_what_it_may() -> None:
    async def main() -> None:
        access, given = tokens()
        async with serving(access=access) as (_, client):
            for role, token in given.items():
                headers = {"Authorization": f"Bearer {token}"}
                assert (await client.get("/api/v1/runs", headers=headers)).status_code == 200
                changed = await client.post("/api/v1/queues/default/pause", headers=headers)
                assert (changed.status_code == 200) == (role is Role.ADMIN)

    run(main)


def test_other_names_and_pages_are_refused() -> None:
    async def main() -> None:
        access = Access(hosts=("ops.example.org",), origins=("https://friend.example.org",))
        async with serving(access=access) as (_, client):
            for host, status in (
                ("127.0.0.1:8700", 200),
                ("localhost:8700", 200),
                ("[::1]:8700", 200),
                ("ops.example.org", 200),
                ("evil.example.org", 421),
                ("127.0.0.1.evil.example.org", 421),
                ("", 421),
            ):
                answer = await client.get("/api/v1/workers", headers={"Host": host})
                assert answer.status_code == status, host
            for origin, status in (
                (BASE, 200),
                ("https://friend.example.org", 200),
                ("https://evil.example.org", 403),
                ("null", 403),
            ):
                answer = await client.get("/api/v1/workers", headers={"Origin": origin})
                assert answer.status_code == status, origin

    run(main)


def test_a_browsers_changes_come_from_our_pages() -> None:
    async def main() -> None:
        access, given = tokens()
        session = access.log_in(given[Role.ADMIN])
        assert session is not None
        assert access.log_in("pdt_wrong") is None
        async with serving(access=access) as (_, client):
            cookie = {"Cookie": f"{COOKIE}={session}"}
            assert (await client.get("/api/v1/runs", headers=cookie)).status_code == 200
            path = "/api/v1/queues/default/pause"
            assert (await client.post(path, headers=cookie)).status_code == 403
            assert (await client.post(path, headers={**cookie, "Origin": BASE})).status_code == 200
            access.log_out(session)
            assert (await client.get("/api/v1/runs", headers=cookie)).status_code == 401

    run(main)


def test_a_proxys_header_counts_from_the_proxy_only() -> None:
    async def main() -> None:
        roles = {"alice": Role.ADMIN, "*": Role.VIEWER}
        access = Access(proxy=Proxy("X-Remote-User", roles, ("10.0.0.0/8",)))
        async with perdure.Engine("memory:") as engine:
            app = create_app(engine, access)

            def client_at(address: str) -> Client:
                return httpx.AsyncClient(
                    transport=httpx.ASGITransport(app, client=(address, 1)), base_url=BASE
                )

            async with client_at("10.1.2.3") as inside, client_at("192.0.2.1") as outside:
                alice = {"X-Remote-User": "alice", "Origin": BASE}
                assert (await inside.post("/api/v1/queues/default/pause", headers=alice)).status_code == 200
                bob = {"X-Remote-User": "bob", "Origin": BASE}
                assert (await inside.get("/api/v1/runs", headers=bob)).status_code == 200
                assert (await inside.post("/api/v1/queues/default/pause", headers=bob)).status_code == 403
                assert (await inside.get("/api/v1/runs")).status_code == 401
                assert (await outside.get("/api/v1/runs", headers=alice)).status_code == 401

    run(main)


def test_the_audit_log_tells_who_changed_what(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        access, given = tokens()
        async with serving(access=access) as (_, client):
            operator = {"Authorization": f"Bearer {given[Role.OPERATOR]}"}
            await client.get("/api/v1/runs", headers=operator)
            await client.post("/api/v1/runs/r-1/cancel", json={"reason": "secret"}, headers=operator)
            await client.post("/api/v1/runs/r-1/cancel", json={})

    with caplog.at_level(logging.INFO, "perdure.audit"):
        run(main)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "perdure.audit"]
    assert [(line["who"], line["path"], line["status"]) for line in lines] == [
        ("operator", "/api/v1/runs/r-1/cancel", 404),
        (None, "/api/v1/runs/r-1/cancel", 401),
    ]
    assert "secret" not in caplog.text
    assert "pdt_" not in caplog.text


def test_others_arent_let_in_by_default() -> None:
    Access().check_bind("127.0.0.1")
    Access().check_bind("::1")
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org"):
        with pytest.raises(ConfigurationError, match="perdure token new"):
            Access().check_bind(host)
        Access(tokens=Tokens()).check_bind(host)


def test_tokens_are_kept_as_digests(tmp_path: Path) -> None:
    made = Tokens()
    token = made.issue("ci", Role.OPERATOR)
    path = tmp_path / "tokens.json"
    made.save(path)
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    again = Tokens.load(path)
    who = again.who(token)
    assert who is not None
    assert (who.name, who.role) == ("ci", Role.OPERATOR)
    assert again.who(token + "x") is None
    newer = again.issue("ci", Role.VIEWER)
    assert again.who(token) is None
    assert again.who(newer) is not None
    path.write_text("{]")
    with pytest.raises(ConfigurationError, match="perdure token new"):
        Tokens.load(path)


def test_a_token_that_is_taken_away_opens_nothing_any_more(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    made = Tokens()
    token = made.issue("ci", Role.OPERATOR)
    made.save(path)
    access = Access(tokens=Tokens.load(path))
    session = access.log_in(token)
    assert session is not None
    assert access.of_session(session) is not None
    del made.by_name["ci"]
    other = made.issue("other", Role.VIEWER)
    made.save(path)
    assert access.of_session(session) is None
    assert access.log_in(token) is None
    assert access.log_in(other) is not None
    path.unlink()  # nobody can tell who may come in, so nobody may
    assert access.log_in(other) is None
    made.save(path)
    assert access.log_in(other) is not None


def test_answers_are_no_pages() -> None:
    """Nothing is rendered, kept, or shown within other pages."""

    async def main() -> None:
        async with serving() as (_, client):
            answer = await client.get("/api/v1/runs/<script>alert(1)</script>")
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["cache-control"] == "no-store"

    run(main)


def test_bodies_are_bounded_before_they_are_read() -> None:
    async def main() -> None:
        async with serving(max_payload=1000) as (engine, client):
            fits = {"workflow": "nobody.knows", "args": ["x" * 900], "id": "a"}
            assert (await client.post("/api/v1/runs", json=fits)).status_code == 201
            for body in (
                {**fits, "id": "b", "args": ["x" * 1001]},
                {**fits, "id": "b", "args": [5_000_000 * "x"]},
            ):
                answer = await client.post("/api/v1/runs", json=body)
                assert answer.status_code == 413, answer.text
                assert "max_payload" in answer.json()["detail"]

            async def parts() -> AsyncIterator[bytes]:  # whose length isn't told before
                for _ in range(100):
                    yield b"x" * 100_000

            answer = await client.post(
                "/api/v1/runs", content=parts(), headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["detail"][:9]) == (413, "A body ha")
            deep = b'{"workflow": "w", "args": ' + b"[" * 300_000 + b"]" * 300_000 + b"}"
            answer = await client.post(
                "/api/v1/runs", content=deep, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 422)
            assert [run.id async for run in engine.runs()] == ["a"]

    run(main)
