"""What is recorded of a request and of its answer.

Of a request its method, its address without parameters, and a fingerprint of all that it asks for; never its headers.
Of an answer its status, the headers on a list, and its body, decoded. A client gets the recorded answer, live as on
replay, a stream in its single events.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any, cast
from urllib.parse import parse_qsl

import msgspec

from perdure.ai.http_events import split
from perdure.ai.http_secrets import is_secret, is_secret_field
from perdure.errors import HttpStatusError

#: Headers of answers that are recorded. Cookies, upload addresses and the like aren't.
_RECORDED = re.compile(
    r"content-type|content-disposition|(x-)?request-id|x-should-retry|retry-after(-ms)?|openai-(model|version)"
    r"|openai-processing-ms|x-ratelimit-[\w-]+|anthropic-ratelimit-[\w-]+|x-gemini-[\w-]+"
)
_BOUNDARY = re.compile(rb'boundary="?([^";\s]+)')
_EVENTS = "text/event-stream"


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer, as it is recorded.

    Attributes:
        text: the body, if it is text; else `data` is it.
    """

    status: int
    text: str | None = None
    data: bytes | None = None
    headers: list[tuple[str, str]] = []

    @classmethod
    def of(cls, status: int, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """With a body, whatever is in it."""
        try:
            return cls(status, text=body.decode(), headers=headers)
        except UnicodeDecodeError:
            return cls(status, data=body, headers=headers)

    @property
    def body(self) -> bytes:
        """The bytes that came."""
        return (self.data or b"") if self.text is None else self.text.encode()

    @property
    def streams(self) -> bool:
        """It came as server-sent events."""
        return any(name == "content-type" and value.startswith(_EVENTS) for name, value in self.headers)


# -- requests ---------------------------------------------------------------------------------------------


def json_of(body: bytes) -> dict[str, Any] | None:
    """The JSON object that a body is, if it is one."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def fingerprint(
    body: bytes, data: Mapping[str, Any] | None, query: bytes, content_type: str, ignored: Collection[str]
) -> str:
    """Of all that a request asks for.

    Two bodies that are the same JSON have the same, however they were written; and two forms of several parts
    that differ in the random text between the parts.

    Args:
        data: the body as JSON, if it is.
        ignored: fields of the JSON that don't count.
    """
    parameters = sorted(
        pair for pair in parse_qsl(query.decode("ascii", "replace"), True) if not is_secret(pair[0])
    )
    if data is not None:
        kept = {
            name: value for name, value in data.items() if name not in ignored and not is_secret_field(name)
        }
        body = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )
    elif (found := _BOUNDARY.search(content_type.encode("latin-1", "replace"))) is not None:
        body = body.replace(found[1], b"boundary")
    digest = blake2b(json.dumps(parameters).encode(), digest_size=16)
    digest.update(b"\n")
    digest.update(body)
    return digest.hexdigest()


def recorded_headers(headers: Iterable[tuple[str, str]], more: Collection[str]) -> list[tuple[str, str]]:
    """Those of an answer's headers that are recorded.

    Args:
        more: names in lower case that are recorded as well.
    """
    return [
        (name.lower(), value)
        for name, value in headers
        if name.lower() in more or _RECORDED.fullmatch(name.lower())
    ]


# -- answers, as clients get them ---------------------------------------------------------------------------


def response_of(library: Any, answer: Answer) -> Any:
    """A response of httpx (or httpx2) that gives what was recorded."""
    body = answer.body
    pieces = tuple(split(body)) if answer.streams else (body,) if body else ()
    headers = list(answer.headers)
    if not answer.streams:
        headers.append(("content-length", str(len(body))))
    return library.Response(answer.status, headers=headers, stream=_stream_class(library)(pieces))


def failed_response(library: Any, error: HttpStatusError) -> Any:
    """A response that says what the last attempt was told; and that it is no use to ask once more.

    How long to wait is left out: that is over.
    """
    headers = [
        pair for pair in error.headers.items() if not pair[0].startswith(("retry-after", "x-should-retry"))
    ]
    answer = Answer(error.status_code, error.text, headers=[*headers, ("x-should-retry", "false")])
    return response_of(library, answer)


@cache
def _stream_class(library: Any) -> Any:
    class Recorded(library.AsyncByteStream, library.SyncByteStream):  # type: ignore[misc]
        """A body that is there already."""

        def __init__(self, pieces: tuple[bytes, ...]) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pieces)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._pieces:
                yield piece

    return Recorded
