"""What a wire format has to do for the server, and what all of them share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens
from perdure.testing.fake_llm.faults import Fault
from perdure.testing.fake_llm.limits import Standing

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """An answer that says no."""

    status: int
    body: Json
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Wire(Protocol):
    """One provider's way to ask and to answer."""

    def read(self, path: str, body: Json) -> Prompt | None:
        """The prompt of a request; None if the path isn't one of this format's."""
        ...

    def headers(self, standings: Mapping[str, Standing], now: float, number: int) -> dict[str, str]:
        """What every response carries: the request's id, and how the limits stand."""
        ...

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        """The body of an answer in one piece."""
        ...

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        """The server-sent events of an answer in pieces."""
        ...

    def refuse(self, fault: Fault, now: float) -> Refusal:
        """The answer to a request that goes wrong."""
        ...


def event(data: Json | str, name: str | None = None) -> bytes:
    """A server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode()


def texts_of(content: Any) -> list[str]:
    """Every text in a message's content, however the provider nests it."""
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    if isinstance(content, Mapping):
        parts: Mapping[str, Any] = content  # pyright: ignore[reportUnknownVariableType]
        found: list[str] = []
        for key in (
            "text",
            "content",
            "parts",
            "output",
            "input_text",
            "functionResponse",
            "response",
            "result",
        ):
            found += texts_of(parts.get(key))
        return found
    if isinstance(content, Iterable):
        items: Iterable[Any] = content  # pyright: ignore[reportUnknownVariableType]
        return [text for item in items for text in texts_of(item)]
    return [str(content)]


def retry_after(fault: Fault) -> dict[str, str]:
    """The header that asks to wait; providers give whole seconds, rounded up."""
    if fault.retry_after is None or not fault.header:
        return {}
    return {"retry-after": str(max(0, -int(-fault.retry_after // 1)))}
