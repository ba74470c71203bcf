"""What an engine and its processes for steps say to each other: frames over a socket, decoded as declared types.

A frame is its length and a message in MessagePack. What users' code made (arguments, results, details, items)
is in there as the JSON bytes of the codec, exceptions as a Failure; nothing is pickled.

    engine  -> process   Job
    process -> engine    Begun, then any number of Beat, Item, Used, Spent and Logged, then Returned or Raised;
                         instead of all that Unfound, or Late
    process -> engine    Begun, then any number of Beat, Item, Announced and Logged, then Returned, Raised or Unfound
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from perdure.core import usage
from perdure.core.events import Failure
from perdure.core.tracing import TraceContext

#: Bytes that hold a frame's length.
HEAD = 4


class Job(msgspec.Struct, frozen=True, tag=True):
    """Execute one attempt.

    Attributes:
        module: where the step's function is defined.
        step: its durable name.
        input: its encoded arguments.
        detail: what the newest heartbeat of earlier attempts told, encoded.
        heard_at: when that was, wall-clock seconds.
        max_payload: largest encoded result or item in bytes.
        limits: names of the rate limits that it is under.
        trace: where it stands in a trace, if somebody traces.
        keys_of: the stored id by which idempotency keys are made, if that isn't `run_id`.
        begin_by: when it must have begun because of those, wall-clock seconds.
    """

    module: str
    step: str
    input: bytes
    run_id: str
    step_id: str
    attempt: int
    keys: int
    max_payload: int
    detail: bytes | None = None
    heard_at: float | None = None
    limits: tuple[str, ...] = ()
    begin_by: float | None = None
    trace: TraceContext | None = None
    keys_of: str | None = None


class Begun(msgspec.Struct, frozen=True, tag=True):
    """The step's module is imported, and its body begins."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """A heartbeat, with its encoded detail if it has one."""

    detail: bytes | None


class Item(msgspec.Struct, frozen=True, tag=True):
    """An encoded item for a stream."""

    stream: str
    data: bytes


class Announced(msgspec.Struct, frozen=True, tag=True):
    """Something to be published with the step's result, encoded."""

    name: str
    key: str | None
    data: bytes


class Logged(msgspec.Struct, frozen=True, tag=True):
    """A record for the log of the engine's process.

    Attributes:
        facts: the attributes of the record that are texts or numbers.
    """

    facts: dict[str, str | int | float | None]


class Used(msgspec.Struct, frozen=True, tag=True):
    """How much was used of a rate limit, by unit."""

    limit: str
    amounts: dict[str, int]


class Spent(msgspec.Struct, frozen=True, tag=True):
    """A call that was made and is paid for."""

    used: usage.Used


class Late(msgspec.Struct, frozen=True, tag=True):
    """It can't begin any more: its permission has run out."""


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The body returned; its encoded result."""

    result: bytes


class Raised(msgspec.Struct, frozen=True, tag=True):
    """The body raised.

    Attributes:
        kinds: qualified names of the exception's class and of its base classes, in order of resolution.
        status: the HTTP status that it carries.
        after: seconds that a server asked to wait.
    """

    failure: Failure
    kinds: list[str]
    status: int | None
    after: float | None


class Unfound(msgspec.Struct, frozen=True, tag=True):
    """The process can't find the step."""

    why: str


class Greeting(msgspec.Struct, frozen=True):
    """What a new process is told before its first job, so that it finds the same code.

    Attributes:
        path: sys.path of the engine's process.
        argv: its sys.argv.
        script: the file of its `__main__` module, None if there is none.
        name: the name under which that was started with `python -m`.
        package: the package it belongs to.
        levels: the levels of loggers that have one of their own; "" is the root.
    """

    path: list[str]
    argv: list[str]
    script: str | None
    name: str | None
    package: str | None
    levels: dict[str, int]


Told = Begun | Beat | Item | Announced | Logged | Used | Spent | Late | Returned | Raised | Unfound

_encode = msgspec.msgpack.Encoder().encode
_decode_told = msgspec.msgpack.Decoder(Told).decode
_decode_job = msgspec.msgpack.Decoder(Job).decode


def frame(message: msgspec.Struct) -> bytes:
    """A message as it goes over the socket."""
    body = _encode(message)
    return len(body).to_bytes(HEAD, "big") + body


async def next_told(read_exactly: Callable[[int], Awaitable[bytes]]) -> Any:
    """The next message of a process, one of `Told`."""
    size = int.from_bytes(await read_exactly(HEAD), "big")
    return _decode_told(await read_exactly(size))


def next_job(connection: socket.socket) -> Job | None:
    """Wait for a job. None if the engine has closed the connection."""
    body = next_frame(connection)
    return None if body is None else _decode_job(body)


def next_frame(connection: socket.socket) -> bytes | None:
    """Wait for a frame, and return what is in it. None if the engine has closed the connection."""
    head = _receive(connection, HEAD)
    return None if head is None else _receive(connection, int.from_bytes(head, "big"))


def _receive(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            more = connection.recv(min(size - len(data), 1 << 20))
        except ConnectionError:  # it was closed while something that we had said was still unread
            return None
        if not more:
            return None
        data += more
    return bytes(data)
