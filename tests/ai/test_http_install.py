"""How durable_http gets into clients and out again, what it covers, and what of requests is compared."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import httpx
import httpx2
import openai
import pytest
from http_kit import OPENAI_KEY, Clients, World, of_kind, run, step_ids, until

import perdure
from perdure import events
from perdure.ai import durable_http
from perdure.ai.http_events import Reader, data_of, split
from perdure.ai.http_hosts import allowed, provider_at
from perdure.ai.http_record import fingerprint
from perdure.ai.http_wire import at_most, endpoint
from perdure.errors import ConfigurationError, UsageError

HELD: dict[str, Any] = {}
SAID: Any = [{"role": "user", "content": "why"}]
NAMES = [
    (library, kind, name)
    for library in (httpx, httpx2)
    for kind, names in (
        ("AsyncHTTPTransport", ("handle_async_request", "aclose", "__aexit__")),
        ("HTTPTransport", ("handle_request", "close")),
    )
    for name in names
]


def now() -> list[Any]:
    return [vars(getattr(library, kind)).get(name) for library, kind, name in NAMES]


# -- in and out ---------------------------------------------------------------------------------------------


def test_it_leaves_everything_as_it_was() -> None:
    before = now()
    one, other = durable_http(), durable_http(["example.com"])
    assert now() == before  # nothing happens by itself
    with one:
        within = now()
        assert within != before
        with one, other:
            assert now() == within
        one.install().install()
        assert now() == within
    assert now() == within
    one.uninstall()
    one.uninstall()
    assert now() == before
    other.install()
    with one:
        other.uninstall()
        assert now() == within or now() != before
    assert now() == before


def test_the_rules_of_the_last_one_count(world: World) -> None:
    async def main() -> None:
        HELD["client"] = Clients(world.llm).openai
        async with world.engine() as engine:
            with durable_http(["127.0.0.1"]):
                with durable_http(["example.com"]):
                    with pytest.raises(perdure.RunFailed, match="doesn't cover"):
                        await engine.run(asks(), id="a")
                assert await engine.run(asks(), id="b") == "gpt-5 has heard: why"

    run(main)


def test_what_others_have_put_on_top_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes through to what was there."""
    seen: list[Any] = []

    async def plain(self: Any, request: Any) -> Any:
        return httpx2.Response(200, text="plain")

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", plain)
    durable = durable_http().install()
    ours = httpx2.AsyncHTTPTransport.handle_async_request

    @functools.wraps(ours)
    async def theirs(self: Any, request: Any) -> Any:
        seen.append(request)
        return await ours(self, request)

    monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", theirs)
    durable.uninstall()
    assert httpx2.AsyncHTTPTransport.handle_async_request is theirs

    async def main() -> None:
        async with httpx2.AsyncClient() as client:
            assert (await client.get("http://example.com")).text == "plain"

    asyncio.run(main())
    assert len(seen) == 1


# -- where it applies ---------------------------------------------------------------------------------------


async def asked() -> str:
    answer = await HELD["client"].chat.completions.create(model="gpt-5", messages=SAID)
    return str(answer.choices[0].message.content)


@perdure.step
async def asks_in_step() -> str:
    return await asked()


@perdure.workflow
async def asks() -> str:
    return await asked()


@perdure.workflow
async def asks_by_step() -> str:
    return await asks_in_step()


def test_in_steps_and_outside_of_runs_all_is_as_ever(world: World) -> None:
    async def main() -> None:
        HELD["client"] = Clients(world.llm).openai
        async with world.engine() as engine:
            assert await engine.run(asks_by_step(), id="r") == "gpt-5 has heard: why"
            assert await step_ids(engine.get("r")) == ["test_http_install.asks_in_step#1"]
            assert await asked() == "gpt-5 has heard: why"
            assert world.hits == 2

    with durable_http(["127.0.0.1"]):
        run(main)


@perdure.workflow
async def has_its_own_client(url: str) -> str:
    async with openai.AsyncOpenAI(base_url=url, api_key=OPENAI_KEY) as HELD["client"]:
        said = await asked()
    await perdure.receive("go on", bool)
    return said


def test_a_client_that_workflow_code_closes_leaves_no_connection(world: World) -> None:
    """Though workflow code can't wait for that."""

    async def main() -> None:
        async with world.engine() as engine:
            handle = await engine.start(has_its_own_client(world.llm.openai_url), id="r")

            async def waits() -> bool:
                return bool(await of_kind(handle, events.MessageAwaited))

            async def closed() -> bool:
                return not world.llm._server._open

            await until(waits)
            await until(closed)
            assert world.hits == 1
        async with world.engine() as engine:
            await engine.get("r").send("go on", True)
            assert await engine.get("r").result() == "gpt-5 has heard: why"
            assert world.hits == 1

    with durable_http(["127.0.0.1"]):
        run(main)


def test_loops_of_runs_that_are_over_are_forgotten(world: World) -> None:
    """Google's client keeps connections for each event loop; every run has one."""

    async def main() -> None:
        clients = HELD["clients"] = Clients(world.llm)
        async with world.engine() as engine:
            for number in range(4):
                await engine.run(asks_google(), id=f"r{number}")
            kept = clients.google._api_client._async_httpx_client._loop_clients
            assert len(kept) == 1

    with durable_http(["127.0.0.1"]):
        run(main)


@perdure.workflow
async def asks_google() -> str:
    answer = await HELD["clients"].google.aio.models.generate_content(
        model="gemini-2.5-flash", contents="why"
    )
    return str(answer.text)


def test_google_does_without_aiohttp(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which it prefers where that is installed: but its connections can't be recorded."""
    from google.genai import _api_client

    async def main() -> None:
        HELD["clients"] = Clients(world.llm)
        monkeypatch.setattr(_api_client, "has_aiohttp", True)
        async with world.engine() as engine:
            assert await engine.run(asks_google(), id="r") == "gemini-2.5-flash has heard: why"
        assert HELD["clients"].google._api_client._use_aiohttp()
        monkeypatch.setattr(_api_client, "has_aiohttp", False)

    with durable_http(["127.0.0.1"]):
        run(main)


# -- what it is given -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["https://api.openai.com", "", "a b", "user@host", 5, "host:x"])
def test_what_cant_be_a_host(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="can't be among the hosts"):
        durable_http([wrong])


def test_what_cant_be_given() -> None:
    with pytest.raises(UsageError):
        durable_http(emit="")
    with pytest.raises(ConfigurationError, match="give a transport"):
        durable_http().transport("nothing")
    with pytest.raises(ConfigurationError, match="pip install aiohttp9"):
        durable_http().async_client(library="aiohttp9")  # type: ignore[arg-type]


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_transport_is_of_the_kind_of_the_one_within(library: Any) -> None:
    durable = durable_http()
    assert isinstance(durable.transport(library.AsyncHTTPTransport()), library.AsyncBaseTransport)
    assert isinstance(durable.transport(library.HTTPTransport()), library.BaseTransport)
    assert isinstance(durable.transport(), httpx2.AsyncBaseTransport)


# -- which requests -------------------------------------------------------------------------------------------

COVERED = [
    ("https://api.openai.com/v1/chat/completions", True),
    ("https://api.openai.com/v1/responses", True),
    ("https://api.openai.com/v1/responses/resp_123", True),
    ("https://api.openai.com/v1/responses/resp_123/cancel", True),
    ("https://api.openai.com/v1/embeddings", True),
    ("https://api.openai.com/v1/models/gpt-5", True),
    ("https://api.openai.com/v1/files/file-1/content", False),
    ("https://api.openai.com/v1/realtime/client_secrets", False),
    ("https://api.openai.com/v1/organization/admin_api_keys", False),
    ("https://eu.api.openai.com/v1/responses", True),
    ("https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=1", True),
    ("https://login.microsoftonline.com/t/oauth2/v2.0/token", False),
    ("https://api.anthropic.com/v1/messages", True),
    ("https://api.anthropic.com/v1/messages/count_tokens", True),
    ("https://api.anthropic.com/v1/messages/batches/b_1/results", True),
    ("https://api.anthropic.com/v1/oauth/token", False),
    ("https://generativelanguage.googleapis.com/v1beta/models/gemini:streamGenerateContent?alt=sse", True),
    ("https://generativelanguage.googleapis.com/upload/v1beta/files", False),
    ("https://europe-west1-aiplatform.googleapis.com/v1/projects/p/models/g:generateContent", True),
    ("https://oauth2.googleapis.com/token", False),
    ("https://openrouter.ai/api/v1/chat/completions", True),
    ("https://evil-api.openai.com.example/v1/chat/completions", False),
]


@pytest.mark.parametrize(("url", "covered"), COVERED)
def test_what_is_covered_if_nothing_is_said(url: str, covered: bool) -> None:
    assert durable_http()._rules.cover(httpx2.URL(url)) is covered


def test_what_entries_mean() -> None:
    host, port, path = allowed(["Models.Example", "other:81", "*.third/v2/*"])
    assert host.covers(httpx2.URL("https://models.example/v1/messages"))
    assert not host.covers(httpx2.URL("https://models.example/v1/other"))
    assert port.covers(httpx2.URL("http://other:81/v1/messages"))
    assert not port.covers(httpx2.URL("http://other:82/v1/messages"))
    assert allowed("x:443")[0].covers(httpx2.URL("https://x/v1/messages"))
    assert path.covers(httpx2.URL("http://a.third/v2/other"))
    assert not path.covers(httpx2.URL("http://a.third/v1/messages"))
    assert provider_at("API.openai.com") == "openai"
    assert provider_at("example.com") is None


ASKED = {"model": "m", "messages": ["x"], "max_tokens": 5}
CALLS = [
    ("/v1/chat/completions", ASKED, ("openai", "m", True), 5),
    ("/v1/responses", {"model": "m", "max_output_tokens": 7}, ("openai", "m", True), 7),
    ("/v1/responses", {"model": "m"}, ("openai", "m", True), 0),
    ("/v1/embeddings", {"model": "e", "input": "x"}, ("openai", "e", True), 0),
    ("/v1/responses/resp_1", None, ("openai", None, False), None),
    ("/openai/deployments/mine/chat/completions", {"messages": []}, ("openai", "mine", True), 0),
    ("/v1/messages", ASKED, ("anthropic", "m", True), 5),
    ("/v1/messages/count_tokens", ASKED, ("anthropic", "m", False), None),
    (
        "/v1beta/models/g:generateContent",
        {"generationConfig": {"maxOutputTokens": 9}},
        ("google", "g", True),
        9,
    ),
    ("/v1beta/models/g:countTokens", {}, ("google", "g", False), None),
    ("/v1/models", None, (None, None, False), None),
]


@pytest.mark.parametrize(
    ("path", "reads"),
    [
        ("/v1/responses", True),
        ("/v1/responses/resp_1/cancel", False),
        ("/v1/messages", True),
        ("/v1/messages/batches", False),
        ("/v1/batches", False),
        ("/v1beta/models/g:generateContent", True),
        ("/orders", False),
    ],
)
def test_what_changes_nothing(path: str, reads: bool) -> None:
    """So that counterfactual forks may do it."""
    assert endpoint(path, {}).reads is reads


@pytest.mark.parametrize(("path", "body", "found", "output"), CALLS)
def test_what_a_path_says(path: str, body: Any, found: Any, output: int | None) -> None:
    called = endpoint(path, body)
    assert (called.speaks, called.model, called.billed) == found
    most = at_most(called, None)
    assert (None if isinstance(most, bool) else most.output_tokens) == output


# -- what is compared -----------------------------------------------------------------------------------------


def of(body: bytes, query: str = "", content_type: str = "application/json", ignored: Any = ()) -> str:
    from perdure.ai.http_record import json_of

    return fingerprint(body, json_of(body), query.encode(), content_type, ignored)


def test_requests_that_ask_the_same() -> None:
    assert of(b'{"a": 1, "b": [2]}') == of(b'{"b":[2],"a":1}')
    assert of(b'{"a": 1}') != of(b'{"a": 2}')
    assert of(b'{"a": 1, "new": 2}', ignored={"new"}) == of(b'{"a": 1}')
    assert of(b"{}", "a=1&b=2") == of(b"{}", "b=2&a=1") != of(b"{}", "a=1&b=3")
    assert of(b"{}", "key=0123456789") == of(b"{}", "key=another") == of(b"{}")
    assert of(b'{"api_key": "x", "a": 1}') == of(b'{"a": 1}')
    form = b'--%b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--%b--'
    kinds = [f"multipart/form-data; boundary={boundary}" for boundary in ("abc123", "xyz789")]
    assert of(form % (b"abc123", b"abc123"), "", kinds[0]) == of(form % (b"xyz789", b"xyz789"), "", kinds[1])
    assert of(b"plain", "", "text/plain") != of(b"other", "", "text/plain")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_events_come_whole_however_they_are_cut(end: bytes) -> None:
    body = (
        b"".join(b'event: x\ndata: {"n": %d}' % number + end for number in range(4)) + b"data: [DONE]" + end
    )
    for size in (1, 2, 3, 7, 1000):
        reader = Reader()
        found = [
            event for begin in range(0, len(body), size) for event in reader.feed(body[begin : begin + size])
        ]
        found += reader.rest()
        assert b"".join(found) == body
        assert [data for event in found if (data := data_of(event))] == [{"n": number} for number in range(4)]
    assert list(split(body)) == found
