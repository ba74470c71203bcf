"""Webhooks: who may send them, and that each does what it should once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook
from web_kit import BASE, Client, run

import perdure
from perdure import workflow
from perdure.errors import ConfigurationError, DuplicateNameError
from perdure.web import Access, Delivery, Hook, Publish, Send, Start, Tokens, create_app, new_secret, sign
from perdure.web import hook as declare
from perdure.web.hooks import Actions, Secrets, declared_hooks
from perdure.web.signatures import BadSignature, Untimely, keys_of, prove

SECRET = new_secret()


@dataclass
class Order:
    number: int
    items: list[str]


@workflow(name="hooked.fulfils")
async def fulfils(order: Order) -> int:
    return order.number


@workflow(name="hooked.waits")
async def waits(number: int) -> list[Any]:
    return [await perdure.receive("paid"), await perdure.receive("paid")]


@asynccontextmanager
async def receiving(
    *hooks: Hook, url: str = "memory:", access: Access | None = None
) -> AsyncGenerator[tuple[perdure.Engine, Client]]:
    async with perdure.Engine(url) as engine:
        app = create_app(engine, access, hooks=hooks)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE, timeout=30) as client:
            yield engine, client


def orders(to: Any = fulfils, secrets: Secrets = SECRET, **options: Any) -> Hook:
    return Hook("orders", to, secrets=secrets, **options)


ORDER = json.dumps({"number": 7, "items": ["tent"]}).encode()


async def posted(
    client: Client, body: bytes = ORDER, headers: dict[str, str] | None = None, name: str = "orders"
) -> httpx.Response:
    return await client.post(f"/hooks/{name}", content=body, headers=headers or {})


async def runs_of(engine: perdure.Engine) -> list[str]:
    return sorted([info.id async for info in engine.runs()])


# -- what is done ---------------------------------------------------------------------------------------


def test_a_delivery_starts_a_run() -> None:
    async def main() -> None:
        async with receiving(orders()) as (engine, client):
            answer = await posted(client, headers=sign(ORDER, SECRET, id="msg_1"))
            assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
            assert await engine.get("hook/orders/msg_1").result() == 7

    run(main)


def test_the_same_delivery_again_does_nothing() -> None:
    async def main() -> None:
        async with receiving(orders()) as (engine, client):
            headers = sign(ORDER, SECRET, id="msg_1")
            for _ in range(3):
                assert (await posted(client, headers=headers)).status_code == 202
            later = sign(
                ORDER, SECRET, id="msg_1", at=time.time() + 60
            )  # a sender that tries again signs anew
            assert (await posted(client, headers=later)).status_code == 202
            assert await runs_of(engine) == ["hook/orders/msg_1"]
            other = json.dumps({"number": 8, "items": []}).encode()
            again = await posted(client, other, sign(other, SECRET, id="msg_1"))
            assert again.status_code == 202  # the first one counts
            assert await engine.get("hook/orders/msg_1").result() == 7

    run(main)


def test_a_function_decides() -> None:
    def decide(order: Order, delivery: Delivery) -> Actions:
        assert delivery.headers["x-kind"] == "paid"
        if not order.items:
            return None
        return [Send("o-7", "paid", {"by": delivery.id}), Publish("order.paid", order.number)]

    async def main() -> None:
        async with receiving(orders(decide)) as (engine, client):
            await engine.start(waits(7), id="o-7")
            for id in ("msg_1", "msg_1", "msg_2", "msg_1"):
                headers = {**sign(ORDER, SECRET, id=id), "x-kind": "paid"}
                assert (await posted(client, headers=headers)).status_code == 202
            assert await engine.get("o-7").result(timeout=30) == [{"by": "msg_1"}, {"by": "msg_2"}]
            assert [item.payload async for item in engine.publications("order.paid")] == [7, 7]
            nothing = json.dumps({"number": 7, "items": []}).encode()
            headers = {**sign(nothing, SECRET), "x-kind": "paid"}
            assert (await posted(client, nothing, headers)).status_code == 202

    run(main)


def test_several_deliveries_can_mean_one_run() -> None:
    async def decide(payment: dict[str, Any]) -> Start:
        await asyncio.sleep(0)
        return Start(waits(payment["order"]), id=f"o-{payment['order']}", messages=[("paid", payment["sum"])])

    async def main() -> None:
        async with receiving(orders(decide)) as (engine, client):
            for id, amount in (("a", 1), ("a", 1), ("b", 2)):
                body = json.dumps({"order": 7, "sum": amount}).encode()
                assert (await posted(client, body, sign(body, SECRET, id=id))).status_code == 202
            assert await engine.get("o-7").result(timeout=30) == [1, 2]
            assert await runs_of(engine) == ["o-7"]

    run(main)


def test_a_message_for_nobody_is_delivered_again_later() -> None:
    def decide(payment: Any) -> Send:
        return Send("o-7", "paid", payment)

    async def main() -> None:
        async with receiving(orders(decide)) as (engine, client):
            early = await posted(client, b"1", sign(b"1", SECRET, id="a"))
            assert (early.status_code, early.json()["type"]) == (404, "urn:perdure:error:UnknownRunError")
            await engine.start(waits(7), id="o-7")
            for id, body in (("a", b"1"), ("b", b"2")):
                assert (await posted(client, body, sign(body, SECRET, id=id))).status_code == 202
            assert await engine.get("o-7").result(timeout=30) == [1, 2]
            assert (await posted(client, b"1", sign(b"1", SECRET, id="a"))).status_code == 202  # it had it
            assert (await posted(client, b"3", sign(b"3", SECRET, id="c"))).status_code == 409

    run(main)


def test_several_servers_take_one_delivery_once(tmp_path: Path) -> None:
    async def main() -> None:
        url = f"sqlite:///{tmp_path}/hooks.db"
        told: list[int] = []

        def decide(order: Order) -> Actions:
            told.append(order.number)
            return [Start(fulfils(order)), Send("o-7", "paid", order.number)]

        hook = orders(decide)
        async with receiving(hook, url=url) as (engine, one), receiving(hook, url=url) as (_, two):
            await engine.start(waits(7), id="o-7")
            for id in ("a", "b"):
                headers = sign(ORDER, SECRET, id=id)
                answers = await asyncio.gather(
                    *(posted(client, headers=headers) for client in (one, two) * 5)
                )
                assert {answer.status_code for answer in answers} == {202}
            assert len(told) == 20
            assert await engine.get("o-7").result(timeout=30) == [7, 7]
            assert await runs_of(engine) == ["hook/orders/a", "hook/orders/b", "o-7"]

    run(main)


def test_ids_of_all_kinds_name_runs() -> None:
    async def main() -> None:
        async with receiving(orders()) as (engine, client):
            for id in ("a/b ../c", "x" * 3000, "<script>"):
                assert (await posted(client, headers=sign(ORDER, SECRET, id=id))).status_code == 202
            found = await runs_of(engine)
            assert len(found) == 3
            assert all(id.startswith("hook/orders/sha256-") and len(id) < 100 for id in found)

    run(main)


# -- who is turned away -------------------------------------------------------------------------------


def wrong_headers() -> Iterator[tuple[str, dict[str, str]]]:
    good = sign(ORDER, SECRET, id="msg_1")
    yield "none", {}
    yield "another secret", sign(ORDER, new_secret(), id="msg_1")
    yield "another body", sign(ORDER + b" ", SECRET, id="msg_1")
    yield "another id", {**good, "webhook-id": "msg_2"}
    yield "another time", {**good, "webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)}
    yield "too old", sign(ORDER, SECRET, id="msg_1", at=time.time() - 400)
    yield "from the future", sign(ORDER, SECRET, id="msg_1", at=time.time() + 400)
    for name in good:
        yield f"no {name}", {key: value for key, value in good.items() if key != name}
    for odd in (
        "",
        ",",
        "v1",
        "v1,",
        "v2,AAAA",
        "v1a,AAAA",
        "v1,ÿþ",
        "v1,\x00",
        "v1," + "A" * 5000,
        "v1,A " * 500,
    ):
        yield f"signature {odd[:12]!r}", {**good, "webhook-signature": odd}
    for odd in ("", "nan", "-1", "1e9", "9" * 400, "٣", "1.5", " 1"):
        yield f"time {odd[:12]!r}", {**good, "webhook-timestamp": odd}


def test_who_cant_prove_it_is_turned_away() -> None:
    async def main() -> None:
        async with receiving(orders()) as (engine, client):
            for what, headers in wrong_headers():
                sent: Any = [
                    (name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()
                ]
                answer = await client.post("/hooks/orders", content=ORDER, headers=sent)
                assert answer.status_code == 401, what
                assert answer.headers["content-type"] == "application/problem+json", what
                assert SECRET not in answer.text, what
            assert await runs_of(engine) == []

    run(main)


def test_an_unknown_hook_answers_like_a_wrong_signature() -> None:
    async def main() -> None:
        async with receiving(orders(max_body=100)) as (_, client):
            headers = sign(ORDER, new_secret())
            known = await posted(client, headers=headers)
            for name in ("order", "orders/", "orders/x", "", "%2e%2e/api/v1/runs"):
                unknown = await client.post(
                    httpx.URL(BASE).copy_with(raw_path=f"/hooks/{name}".encode()),
                    content=ORDER,
                    headers=headers,
                )
                assert unknown.status_code == known.status_code == 401, name
                assert unknown.text == known.text
                assert dict(unknown.headers) == dict(known.headers)
            for size in (101, 10_000_000):
                bodies = [await posted(client, b"1" * size, name=name) for name in ("orders", "others")]
                assert len({answer.text for answer in bodies}) == 1

    run(main)


def test_only_what_is_posted_needs_no_token() -> None:
    async def main() -> None:
        async with receiving(orders(), access=Access(tokens=Tokens())) as (_, client):
            assert (await posted(client, headers=sign(ORDER, SECRET))).status_code == 202
            for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
                answer = await client.request(method, "/hooks/orders", headers=sign(b"", SECRET))
                assert answer.status_code == 401, method
            for path in ("/hooks", "/hook/orders", "/Hooks/orders", "//hooks/orders", "/api/v1/hooks/orders"):
                url = httpx.URL(BASE).copy_with(raw_path=path.encode())
                answer = await client.post(url, content=ORDER, headers=sign(ORDER, SECRET))
                assert answer.status_code in (401, 404), path
                assert answer.json()["type"].endswith("Unauthenticated"), path

    run(main)


def test_large_and_slow_bodies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b"1"
            await asyncio.sleep(0.02)

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"1" * 10_000

    async def main() -> None:
        async with receiving(orders(max_body=len(ORDER))) as (_, client):
            assert (await posted(client, headers=sign(ORDER, SECRET))).status_code == 202
            more = ORDER + b" "
            assert (await posted(client, more, sign(more, SECRET))).status_code == 413
            assert (await client.post("/hooks/orders", content=flood())).status_code == 413
            monkeypatch.setattr("perdure.web.receiving._PATIENCE", 0.1)
            assert (await client.post("/hooks/orders", content=dripping())).status_code in (408, 413)

    run(main)


def test_a_payload_that_doesnt_fit_is_refused() -> None:
    def decide(order: Order) -> Actions:
        return Start(fulfils(order))

    async def main() -> None:
        for to in (fulfils, decide):
            async with receiving(orders(to)) as (engine, client):
                for body in (b"", b"{", b"[]", b'{"number": "x"}', b"\xff", b"[" * 100_000, b"NaN"):
                    answer = await posted(client, body, sign_bytes(body))
                    assert answer.status_code == 422, (body[:20], answer.text)
                    assert answer.headers["content-type"] == "application/problem+json"
                assert await runs_of(engine) == []

    run(main)


def sign_bytes(body: bytes, id: str = "msg_1") -> dict[str, str]:
    return sign(body, SECRET, id=id)


def test_what_a_function_does_wrong_is_told_to_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    def raises(order: Order) -> Actions:
        raise RuntimeError("the inner secret")

    def returns(order: Order) -> Any:
        return ["nonsense"]

    async def main() -> None:
        for to in (raises, returns):
            async with receiving(orders(to)) as (_, client):
                answer = await posted(client, headers=sign(ORDER, SECRET))
                assert answer.status_code == 500
                assert "inner" not in answer.text

    run(main)
    assert "return Start, Send, Publish or None" in caplog.text


# -- secrets --------------------------------------------------------------------------------------------


def test_secrets_change_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = new_secret(), new_secret()

    async def main() -> None:
        monkeypatch.setenv("HOOK_SECRET", old)
        async with receiving(Hook("orders", fulfils, env="HOOK_SECRET")) as (_, client):

            async def statuses() -> list[int]:
                return [(await posted(client, headers=sign(ORDER, each))).status_code for each in (old, new)]

            assert await statuses() == [202, 401]
            monkeypatch.setenv("HOOK_SECRET", f"{new} {old}")
            assert await statuses() == [202, 202]
            monkeypatch.setenv("HOOK_SECRET", new)
            assert await statuses() == [401, 202]
            both = sign(ORDER, old, id="x")
            both["webhook-signature"] += " " + sign(ORDER, new, id="x")["webhook-signature"]
            assert (await posted(client, headers=both)).status_code == 202
            monkeypatch.delenv("HOOK_SECRET")
            assert await statuses() == [401, 401]

    run(main)


def test_a_hook_without_a_secret_isnt_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    engine = perdure.Engine("memory:")
    with pytest.raises(ConfigurationError, match="set HOOK_SECRET"):
        create_app(engine, hooks=[Hook("orders", fulfils, env="HOOK_SECRET")])
    for secrets in ([], "short", "whsec_AAAA", "whsec_" + "!" * 40, [SECRET, ""], list):
        with pytest.raises(ConfigurationError) as told:
            create_app(engine, hooks=[orders(secrets=secrets)])
        assert "AAAA" not in str(told.value)
        assert "short" not in str(told.value).replace("shorter", "")
    with pytest.raises(ConfigurationError, match="two hooks"):
        create_app(engine, hooks=[orders(), orders()])


def test_secrets_from_a_vault_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    given: list[Sequence[str]] = [[SECRET]]

    def vault() -> Sequence[str]:
        return given[0]

    async def main() -> None:
        async with receiving(orders(secrets=vault)) as (_, client):
            assert (await posted(client, headers=sign(ORDER, SECRET))).status_code == 202
            given.clear()
            answer = await posted(client, headers=sign(ORDER, SECRET))
            assert answer.status_code == 401
            assert "vault" not in answer.text

    run(main)
    assert "can't be had" in caplog.text


def test_the_audit_log_has_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with receiving(orders()) as (_, client):
            await posted(client, headers=sign(ORDER, SECRET, id="msg_1"))
            await posted(client, headers=sign(ORDER, new_secret(), id="msg_2"))

    with caplog.at_level(logging.DEBUG):
        run(main)
    lines = [json.loads(record.message) for record in caplog.records if record.name == "perdure.audit"]
    assert [(line["who"], line["status"], line.get("delivery"), line.get("did")) for line in lines] == [
        ("hook orders", 202, "msg_1", ["start hook/orders/msg_1"]),
        (None, 401, None, None),
    ]
    assert "whsec_" not in caplog.text
    assert SECRET.removeprefix("whsec_") not in caplog.text
    assert "tent" not in "".join(
        record.message for record in caplog.records if record.name == "perdure.audit"
    )
    assert "whsec_" not in repr(orders())


# -- schemes ---------------------------------------------------------------------------------------------


def test_others_sign_alike() -> None:
    """By the package of those who wrote the specification."""
    for body in (ORDER, '{"é": 1}'.encode()):
        theirs = Webhook(SECRET)
        at = datetime.now(tz=UTC)
        signature = theirs.sign(msg_id="msg_1", timestamp=at, data=body.decode())
        assert sign(body, SECRET, id="msg_1", at=at.timestamp())["webhook-signature"] == signature
        assert theirs.verify(body, sign(body, SECRET)) == json.loads(body)


def test_the_example_of_the_specification_holds() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    keys = keys_of("standard", [secret])
    assert prove("standard", headers, body, keys, now=1614265330 + 299).id == headers["webhook-id"]
    for now in (1614265330 + 301, 1614265330 - 301):
        with pytest.raises(Untimely):
            prove("standard", headers, body, keys, now=now)
    with pytest.raises(BadSignature):
        prove("standard", headers, body + b" ", keys, now=1614265330)


def test_githubs_way() -> None:
    async def main() -> None:
        secret = "It's a Secret to Everybody"

        def pushed(push: Any, delivery: Delivery) -> Actions:
            return Publish("push", delivery.id)

        hook = Hook("github", pushed, secrets=secret, scheme="github")
        body = b'"Hello, World!"'
        mac = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        async with receiving(hook) as (engine, client):
            for signature, status in (
                (f"sha256={mac}", 202),
                (f"sha256={'0' * 64}", 401),
                (mac, 401),
                ("", 401),
            ):
                headers = {"x-hub-signature-256": signature, "x-github-delivery": "72d3162e"}
                assert (await posted(client, body, headers, "github")).status_code == status
            assert [item.payload async for item in engine.publications("push")] == ["72d3162e"]
        known = keys_of("github", [secret])
        mac = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        proved = {"x-hub-signature-256": f"sha256={mac}", "x-github-delivery": "1"}
        assert prove("github", proved, b"Hello, World!", known, now=0).at is None

    run(main)


def test_stripes_way() -> None:
    async def main() -> None:
        secret = new_secret()

        def told(event: dict[str, Any]) -> Actions:
            return Publish("stripe", event["id"])

        hook = Hook("stripe", told, secrets=secret, scheme="stripe")
        body = b'{"id": "evt_1", "type": "charge.succeeded"}'

        def header(at: int, signed: bytes) -> dict[str, str]:
            mac = hmac.new(secret.encode(), f"{at}.".encode() + signed, hashlib.sha256).hexdigest()
            return {"stripe-signature": f"t={at},v1={'0' * 64},v1={mac},v0=old"}

        now = int(time.time())
        async with receiving(hook) as (engine, client):
            for headers, status in (
                (header(now, body), 202),
                (header(now + 1, body), 202),
                (header(now - 400, body), 401),
                (header(now, body + b" "), 401),
                ({"stripe-signature": "t=,v1"}, 401),
                ({}, 401),
            ):
                assert (await posted(client, body, headers, "stripe")).status_code == status
            assert (await posted(client, b"{}", header(now, b"{}"), "stripe")).status_code == 401
            assert [item.payload async for item in engine.publications("stripe")] == ["evt_1"]

    run(main)


# -- declaring ----------------------------------------------------------------------------------------


def test_declared_hooks_are_found() -> None:
    def nothing(payload: Any) -> None:
        return None

    assert declare("declared", secrets=SECRET)(nothing) is nothing
    declare("declared", secrets=SECRET)(nothing)  # a reload
    with pytest.raises(DuplicateNameError, match="two hooks"):
        declare("declared", secrets=SECRET)(fulfils)
    assert declare("declared.too", secrets=SECRET)(fulfils) is fulfils
    assert {"declared", "declared.too"} <= {hook.name for hook in declared_hooks()}

    async def main() -> None:
        async with perdure.Engine("memory:") as engine:
            transport = httpx.ASGITransport(create_app(engine))
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                answer = await posted(client, headers=sign(ORDER, SECRET), name="declared.too")
                assert answer.status_code == 202

    run(main)


def test_a_hook_that_cant_be_is_refused() -> None:
    def too_many(a: Any, b: Any, c: Any) -> None: ...

    for name in ("", "a/b", "ä", "x" * 65, "..", "a b"):
        with pytest.raises(ConfigurationError, match="can't name a hook"):
            Hook(name, fulfils, secrets=SECRET)
    for to in (too_many, lambda: None, 7, perdure.step(too_many)):
        with pytest.raises(ConfigurationError, match="hook 'orders'"):
            orders(to)
    with pytest.raises(ConfigurationError, match="scheme="):
        orders(scheme="md5")
    with pytest.raises(ConfigurationError, match="one of env="):
        Hook("orders", fulfils)
    with pytest.raises(ConfigurationError, match="max_body"):
        orders(max_body=0)
