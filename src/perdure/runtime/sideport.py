"""A little HTTP server beside a worker, for those who ask how it is: probes and scrapers.

It knows a few exact paths, takes GET and HEAD only, reads no bodies, and changes nothing. Whoever asks too slowly, too
much at once or in another way than this is let go of, so that nobody can hold a worker up through it. It answers in the
worker's own event loop: a loop that doesn't turn gives no answer, which is an answer, too.

Where it listens on this machine only, pages of other sites that browsers here show can't ask: they would come under
another host's name.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from perdure.errors import ConfigurationError

_HEAD_MAX: Final = 8192  # bytes of a request's head
_PATIENCE: Final = 5.0  # seconds for a whole request, and for taking its answer
_AT_ONCE: Final = 32  # connections


class Answer(msgspec.Struct, frozen=True):
    """What is told to whoever asks."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


Ask = Callable[[], Awaitable[Answer]]


#: Is told which formats whoever asks understands: the header "accept".
AskFor = Callable[[str], Awaitable[Answer]]


class Port(msgspec.Struct, frozen=True):
    """Where to listen, and what to answer there, by exact path.

    Attributes:
        formats: answers that there are in several formats.
    """

    host: str
    port: int
    answers: Mapping[str, Ask]
    formats: Mapping[str, AskFor] = {}

    def all(self) -> dict[str, AskFor]:
        """All answers, by exact path."""

        def whatever(ask: Ask) -> AskFor:
            return lambda _: ask()

        return {**{path: whatever(ask) for path, ask in self.answers.items()}, **self.formats}


@contextlib.asynccontextmanager
async def side_ports(ports: Iterable[Port]) -> AsyncGenerator[list[str], None]:
    """Listen while the block lasts. What is to be at one host and port is served by one server.

    Yields:
        The addresses, one for each host and port, in the order in which these were given.

    Raises:
        ConfigurationError: an address can't be had.
    """
    together: dict[tuple[str, int], dict[str, AskFor]] = {}
    for one in ports:
        together.setdefault((one.host, one.port), {}).update(one.all())
    async with contextlib.AsyncExitStack() as open_now:
        addresses: list[str] = []
        for (host, port), answers in together.items():
            server = _Server(answers, here_only=_is_here(host))
            addresses.append(await open_now.enter_async_context(server.listening(host, port)))
        yield addresses


class _Server:
    def __init__(self, answers: Mapping[str, AskFor], *, here_only: bool) -> None:
        self._answers = answers
        self._here_only = here_only
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[str, None]:
        try:
            server = await asyncio.start_server(self._connected, host, port, limit=_HEAD_MAX)
        except OSError as error:
            msg = (
                f"nothing can listen at {host}:{port}: {error.strerror}. Stop what does, or give another port"
            )
            raise ConfigurationError(msg) from error
        try:
            chosen = server.sockets[0].getsockname()[1]
            yield f"http://[{host}]:{chosen}" if ":" in host else f"http://{host}:{chosen}"
        finally:
            server.close()
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= _AT_ONCE:
            writer.close()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # gone, too slow, or no request: nobody to tell
        except asyncio.CancelledError:
            pass  # the server closes
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.partition(" ")
        if not version.startswith("HTTP/1."):
            answer = _told(HTTPStatus.BAD_REQUEST)
        elif self._here_only and not _is_here(_name_of(_field(fields, "host"))):
            answer = _told(HTTPStatus.MISDIRECTED_REQUEST)
        elif (ask := self._answers.get(target.partition("?")[0])) is None:
            answer = _told(HTTPStatus.NOT_FOUND)
        elif method not in ("GET", "HEAD"):
            answer = _told(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            answer = await ask(_field(fields, "accept"))
        said = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            f"content-type: {answer.content_type}\r\n"
            f"content-length: {len(answer.body)}\r\n"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        writer.write(said.encode("latin-1") + (b"" if method == "HEAD" else answer.body))
        await writer.drain()


def _told(status: HTTPStatus) -> Answer:
    return Answer(f"{status.phrase}\n".encode(), status, "text/plain; charset=utf-8")


def _field(fields: Iterable[str], wanted: str) -> str:
    """A field of a request's head, "" if it isn't there."""
    for field in fields:
        name, _, value = field.partition(":")
        if name.strip().lower() == wanted:
            return value.strip()
    return ""


def _name_of(host: str) -> str:
    """Under which name somebody came, without a port."""
    return host.partition("]")[0].strip("[") if host.startswith("[") else host.partition(":")[0]


def _is_here(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
