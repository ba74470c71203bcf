"""The little HTTP server beside a worker: exact paths, nothing but looking, and nobody holds it up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from perdure.errors import ConfigurationError
from perdure.runtime import sideport
from perdure.runtime.sideport import Answer, Port, side_ports


async def fine() -> Answer:
    return Answer(b'{"status":"live"}')


async def ill() -> Answer:
    return Answer(b"no", 503, "text/plain")


def serving(
    scenario: Callable[[str, int], Awaitable[None]], host: str = "127.0.0.1", **answers: sideport.Ask
) -> None:
    async def main() -> None:
        given = {f"/{name}": ask for name, ask in (answers or {"healthz": fine, "readyz": ill}).items()}
        async with side_ports([Port(host, 0, given)]) as (address,):
            at = urlsplit(address)
            assert at.hostname is not None
            assert at.port is not None
            await scenario(at.hostname.replace("0.0.0.0", "127.0.0.1"), at.port)

    asyncio.run(asyncio.wait_for(main(), 60))


async def ask(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()


def get(path: str, method: str = "GET", host: str = "localhost:1") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_it_answers_exact_paths_only() -> None:
    async def scenario(host: str, port: int) -> None:
        told = await ask(host, port, get("/healthz"))
        assert told.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n")
        assert told.endswith(b'\r\n\r\n{"status":"live"}')
        assert (await ask(host, port, get("/healthz?verbose=1"))).startswith(b"HTTP/1.1 200 ")
        told = await ask(host, port, get("/readyz"))
        assert told.startswith(b"HTTP/1.1 503 ")
        assert told.endswith(b"\r\n\r\nno")
        for path in (
            "/",
            "/healthz/",
            "/x/healthz",
            "//healthz",
            "/HEALTHZ",
            "/%68ealthz",
            "/healthz;x",
            "*",
        ):
            assert (await ask(host, port, get(path))).startswith(b"HTTP/1.1 404 "), path

    serving(scenario)


def test_it_changes_nothing_and_reads_no_bodies() -> None:
    async def scenario(host: str, port: int) -> None:
        assert (await ask(host, port, get("/healthz", "HEAD"))).endswith(b"connection: close\r\n\r\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
            assert (await ask(host, port, get("/healthz", method))).startswith(b"HTTP/1.1 405 "), method
        assert (await ask(host, port, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert await ask(host, port, b"GET /" + b"x" * 20_000) == b"", "a head without an end"

    serving(scenario)


def test_pages_under_another_hosts_name_get_nothing() -> None:
    async def scenario(host: str, port: int) -> None:
        for name in ("evil.example", "localhost.evil.example:80", "10.0.0.1", ""):
            told = await ask(host, port, get("/healthz", host=name))
            assert told.startswith(b"HTTP/1.1 421 "), name
            assert b"live" not in told, name
        for name in ("localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1"):
            assert (await ask(host, port, get("/healthz", host=name))).startswith(b"HTTP/1.1 200 "), name

    serving(scenario)


def test_whoever_listens_for_others_is_known_by_any_name() -> None:
    """Probes of a container come from outside, under its address."""

    async def scenario(host: str, port: int) -> None:
        assert (await ask(host, port, get("/healthz", host="10.1.2.3:80"))).startswith(b"HTTP/1.1 200 ")

    serving(scenario, host="0.0.0.0")


def test_those_who_say_nothing_hold_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sideport, "_AT_ONCE", 3)
    monkeypatch.setattr(sideport, "_PATIENCE", 1.0)

    async def scenario(host: str, port: int) -> None:
        idle = [await asyncio.open_connection(host, port) for _ in range(3)]
        for _, writer in idle:
            writer.write(b"GET /heal")
        told = b""
        while not told:  # as soon as the others' time is up
            try:
                told = await ask(host, port, get("/healthz"))
            except ConnectionError:
                told = b""
        assert told.startswith(b"HTTP/1.1 200 ")
        for reader, writer in idle:
            assert await reader.read() == b""
            writer.close()

    serving(scenario)


def test_leaving_it_waits_for_nobody() -> None:
    never = asyncio.Event

    async def main() -> None:
        async def stays() -> Answer:
            await never().wait()
            raise AssertionError

        async with side_ports([Port("127.0.0.1", 0, {"/healthz": stays})]) as (address,):
            at = urlsplit(address)
            reader, writer = await asyncio.open_connection(at.hostname, at.port)
            writer.write(get("/healthz"))
            await asyncio.sleep(0.05)
        assert await reader.read() == b""
        writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))


def test_what_is_at_one_address_is_one_server() -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ports = [Port("127.0.0.1", port, {"/healthz": fine}), Port("127.0.0.1", port, {"/readyz": ill})]
        async with side_ports(ports) as addresses:
            assert addresses == [f"http://127.0.0.1:{port}"]
            assert (await ask("127.0.0.1", port, get("/healthz"))).startswith(b"HTTP/1.1 200 ")
            assert (await ask("127.0.0.1", port, get("/readyz"))).startswith(b"HTTP/1.1 503 ")
            with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port}.*another port"):
                async with side_ports(ports):
                    pass

    asyncio.run(main())
