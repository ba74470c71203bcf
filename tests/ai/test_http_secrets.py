"""No credential gets onto the disk, however a server or a client tells of it."""

from __future__ import annotations

import base64
import gzip
import json
import random
import string
from itertools import product
from pathlib import Path
from typing import Any

import httpx2
import pytest
from http_kit import ANTHROPIC_KEY, GOOGLE_KEY, OPENAI_KEY, Clients, World, run

import perdure
from perdure import Retry
from perdure.ai import durable_http
from perdure.ai.http_secrets import crossed_out, is_secret, secrets_of
from perdure.testing import fake_llm

HELD: dict[str, Any] = {}
ONCE = Retry(max_attempts=1)


@perdure.workflow
async def asks_all() -> str:
    clients: Clients = HELD["clients"]
    said: Any = [{"role": "user", "content": "why"}]
    first = await clients.openai.chat.completions.create(model="gpt-5", messages=said)
    second = await clients.anthropic.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=said)
    third = await clients.google.aio.models.generate_content(model="gemini-2.5-flash", contents="why")
    stream = await clients.openai.responses.create(model="gpt-5", input="why", stream=True)
    async for _ in stream:
        pass
    return f"{first.id} {second.id} {third.response_id}"


@pytest.mark.parametrize(
    "faults",
    [
        [],
        [fake_llm.unauthorised()],
        [fake_llm.server_error()],
        [None, fake_llm.lost()],
        [None, None, fake_llm.cut()],
    ],
    ids=["well", "unauthorised", "server error", "lost", "cut"],
)
def test_the_keys_of_clients_are_nowhere(world: World, faults: list[Any]) -> None:
    world.llm.script(*faults)

    async def main() -> None:
        HELD["clients"] = Clients(world.llm)
        async with world.engine() as engine:
            handle = await engine.start(asks_all(), id="r")
            if faults:
                with pytest.raises(perdure.RunFailed):
                    await handle.result()
            else:
                assert await handle.result()
            found = world.files()
            assert b"llm:gpt-5" in found
            for key in (OPENAI_KEY, ANTHROPIC_KEY, GOOGLE_KEY):
                assert key.encode() not in found

    with durable_http(["127.0.0.1"], retry=ONCE, emit="tokens"):
        run(main)


@perdure.workflow
async def calls(method: str, url: str, options: dict[str, Any]) -> str:
    client: httpx2.AsyncClient = HELD["client"]
    try:
        response = await client.request(method, url, **HELD["secret options"], **options)
    except httpx2.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return f"{response.status_code} {response.text}"


LETTERS = string.ascii_letters + string.digits + "-_.~+/"
PLACES = ["bearer", "header", "cookie", "basic", "query", "field", "user"]


def carried(place: str, secret: str) -> dict[str, Any]:
    match place:
        case "bearer":
            return {"headers": {"Authorization": f"Bearer {secret}"}}
        case "header":
            return {"headers": {"X-Service-Api-Key": secret}}
        case "cookie":
            return {"headers": {"cookie": f"session={secret}; theme=dark"}}
        case "basic":
            return {"auth": ("someone", secret)}
        case "query":
            return {"params": {"api_key": secret, "alt": "sse"}}
        case "field":
            return {"json": {"api_key": secret, "model": "m"}}
        case _:
            return {
                "headers": {"authorization": "Basic " + base64.b64encode(f"{secret}:x".encode()).decode()}
            }


HOWS = ["ok", "bad", "stream", "packed", "raises", "binary"]


def echo(request: httpx2.Request) -> httpx2.Response:
    """A server that repeats everything: in its body, in its headers, in pieces of a stream, compressed."""
    heard = [f"{name}={value}" for name, value in request.headers.multi_items()]
    plain = request.headers.get("authorization", "").removeprefix("Basic ")
    try:
        heard.append(base64.b64decode(plain, validate=True).decode())
    except ValueError:
        pass
    text = json.dumps([*heard, str(request.url), request.content.decode()])
    how = request.headers["x-how"]
    if how == "raises":
        raise httpx2.LocalProtocolError(f"illegal header value {text}") from ValueError(text)
    headers = {"x-request-id": text, "set-cookie": text, "content-type": "application/json"}
    if how == "stream":
        pieces = f'data: {{"echo": {text}}}\n\ndata: [DONE]\n\n'
        return httpx2.Response(200, headers={**headers, "content-type": "text/event-stream"}, text=pieces)
    if how == "packed":
        packed = gzip.compress(text.encode())
        return httpx2.Response(200, headers={**headers, "content-encoding": "gzip"}, content=packed)
    if how == "binary":
        return httpx2.Response(200, headers=headers, content=b"\xff\x00" + text.encode())
    return httpx2.Response(200 if how == "ok" else 422, headers=headers, text=text)


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_repeats_everything_betrays_nothing(tmp_path: Path, seed: int) -> None:
    """Nor does a client in its errors."""
    drawn = random.Random(seed)
    talks = [
        ("".join(drawn.choices(LETTERS, k=drawn.randint(12, 60))), *how) for how in product(PLACES, HOWS)
    ]

    async def main() -> None:
        durable = durable_http(["models/*"], retry=ONCE, emit="tokens")
        transport = durable.transport(httpx2.MockTransport(echo))
        world = World(tmp_path / "runs.db", None)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=transport, base_url="http://models") as HELD["client"]:
            async with world.engine() as engine:
                for number, (secret, place, how) in enumerate(talks):
                    given = carried(place, secret)
                    HELD["secret options"] = {**given, "headers": {**given.get("headers", {}), "x-how": how}}
                    said = await engine.run(calls("POST", "/v1/x", {}), id=f"r{number}")
                    assert secret not in said, (place, how)
                found = world.files()
        assert b"http:models" in found
        for secret, place, how in talks:
            assert secret.encode() not in found, (place, how)
            assert base64.b64encode(f"someone:{secret}".encode()) not in found

    run(main)


def test_a_key_with_a_line_feed_is_told_by_no_error(world: World) -> None:
    """h11 repeats the header that it can't send."""

    async def main() -> None:
        HELD["secret options"] = {"headers": {"authorization": f"Bearer {OPENAI_KEY}\n"}}
        durable = durable_http(["127.0.0.1"], retry=ONCE)
        async with durable.async_client(base_url=world.llm.url) as HELD["client"]:
            async with world.engine() as engine:
                said = await engine.run(
                    calls("POST", "/v1/chat/completions", {"json": {"model": "m"}}), id="r"
                )
                assert said.startswith("LocalProtocolError: Illegal header value")
                assert OPENAI_KEY.encode() not in world.files()

    run(main)


def test_a_redirection_to_a_signed_address_isnt_recorded(world: World) -> None:
    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/a":
            return httpx2.Response(302, headers={"location": "/v1/b"})
        if request.url.path == "/v1/b":
            return httpx2.Response(302, headers={"location": "https://elsewhere/x?sig=0123456789abcdef"})
        return httpx2.Response(200)

    async def main() -> None:
        HELD["secret options"] = {"follow_redirects": True}
        transport = durable_http(["models/*"]).transport(httpx2.MockTransport(handle))
        async with httpx2.AsyncClient(transport=transport, base_url="http://models") as HELD["client"]:
            async with world.engine() as engine:
                with pytest.raises(perdure.RunFailed, match="aren't recorded"):
                    await engine.run(calls("GET", "/v1/a", {}), id="r")
                assert b"0123456789abcdef" not in world.files()

    run(main)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True),
        ("Proxy-Authorization", True),
        ("x-api-key", True),
        ("api-key", True),
        ("x-goog-api-key", True),
        ("Ocp-Apim-Subscription-Key", True),
        ("Cookie", True),
        ("X-Amz-Security-Token", True),
        ("access_token", True),
        ("sig", True),
        ("key", True),
        ("content-type", False),
        ("x-stainless-lang", False),
        ("anthropic-version", False),
        ("alt", False),
        ("idempotency-key", False),
    ],
)
def test_what_looks_like_a_credential(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_the_longest_is_crossed_out_first() -> None:
    secrets = secrets_of(
        [("x-api-key", "0123456789"), ("authorization", "Bearer 0123456789-and-more")], [], None
    )
    assert crossed_out("0123456789-and-more 0123456789", secrets) == "*" * 19 + " " + "*" * 10
