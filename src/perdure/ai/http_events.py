"""Server-sent events: from bytes that come in pieces to the JSON in them, and back into pieces for a client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, cast

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def split(body: bytes) -> Iterator[bytes]:
    """The events of a body, each with its end; a remainder as the last."""
    begin = 0
    for found in _END.finditer(body):
        yield body[begin : found.end()]
        begin = found.end()
    if begin < len(body):
        yield body[begin:]


def data_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object in an event, None if there is none: a comment, or what ends a stream.

    >>> data_of(b'event: x\\ndata: {"a": 1}\\n\\n'), data_of(b"data: [DONE]\\n\\n")
    ({'a': 1}, None)
    """
    lines = [line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")]
    if not lines:
        return None
    try:
        data = json.loads(b"\n".join(lines))
    except ValueError:
        return None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else None


class Reader:
    """Takes pieces as they come, and gives whole events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that are complete now."""
        self._rest += piece
        ends = [found.end() for found in _END.finditer(self._rest)]
        if not ends:
            return []
        whole, self._rest = self._rest[: ends[-1]], self._rest[ends[-1] :]
        return list(split(whole))

    def rest(self) -> list[bytes]:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [rest] if rest.strip() else []
