"""The wire formats of language models, as far as they matter here: which model, how much was used, what went wrong.

A format is known by the path: gateways and self-hosted servers speak OpenAI's, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import msgspec

from perdure.ai.given import is_list
from perdure.ai.worst_case import worst_case
from perdure.core.usage import Spend, Used
from perdure.runtime.prices import priced
from perdure.runtime.responses import usage_of_wire

Speaks: TypeAlias = Literal["openai", "anthropic", "google"]
Json: TypeAlias = Mapping[str, Any]

_OPENAI = re.compile(
    r"/(chat/)?completions$|/responses(/|$)|/embeddings$|/moderations$|/rerank$|/images/|/audio/"
)
_ANTHROPIC = re.compile(r"/messages(/|$)")
_GOOGLE = re.compile(r"/models/(?P<model>[^/:]+):(?P<verb>\w+)$")
_AZURE = re.compile(r"/deployments/(?P<model>[^/]+)/")
#: Paths whose calls are billed by the token.
_BILLED = re.compile(
    r"/(chat/)?completions$|/responses$|/embeddings$|/messages$|:(generateContent|streamGenerateContent|embedContent)$"
)
_CHANGING = re.compile(r"/batches(/|$)|/cancel$")
_WITHOUT_OUTPUT = re.compile(r"/embeddings$|:embedContent$")

#: What errors are called that come in the middle of a stream, and the status they would have had before it.
_IN_STREAM = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a request asks for.

    Attributes:
        speaks: the wire format, None if it is no known one.
        model: which model is asked, if that can be told.
        billed: the call costs money.
        body: the JSON that is sent, if it is an object.
    """

    speaks: Speaks | None
    model: str | None
    billed: bool
    body: Json | None
    path: str

    @property
    def reads(self) -> bool:
        """What is asked changes nothing: a model answers."""
        return self.speaks is not None and not _CHANGING.search(self.path)

    @property
    def untold(self) -> bool:
        """It is a stream of OpenAI's whose usage isn't told unless one asks."""
        body = self.body or {}
        return (
            self.speaks == "openai"
            and self.path.endswith("/completions")
            and body.get("stream") is True
            and not _object(body.get("stream_options")).get("include_usage")
        )


def _object(value: Any) -> Json:
    """A JSON object, an empty one if it is none."""
    return cast("Json", value) if isinstance(value, Mapping) else {}


def endpoint(path: str, body: Json | None) -> Endpoint:
    """Read a request's path and body."""
    speaks: Speaks | None = None
    model: Any = (body or {}).get("model")
    if (found := _GOOGLE.search(path)) is not None:
        speaks, model = "google", found["model"]
    elif _ANTHROPIC.search(path):
        speaks = "anthropic"
    elif _OPENAI.search(path):
        speaks = "openai"
        if (deployed := _AZURE.search(path)) is not None:
            model = deployed["model"]
    model = model if isinstance(model, str) and model else None
    return Endpoint(speaks, model, model is not None and bool(_BILLED.search(path)), body, path)


def asking_for_usage(body: Json) -> bytes:
    """The body of a stream of OpenAI's, changed so that its usage is told in a last piece."""
    options = {**_object(body.get("stream_options")), "include_usage": True}
    return json.dumps({**body, "stream_options": options}, ensure_ascii=False, separators=(",", ":")).encode()


def only_usage(data: Json | None) -> bool:
    """Whether that is the piece, which the program didn't ask for."""
    return data is not None and data.get("choices") == [] and isinstance(data.get("usage"), Mapping)


def at_most(called: Endpoint, provider: str | None) -> Spend | bool:
    """What a call uses at most, as far as it limits what is made. False if it costs nothing."""
    if not called.billed:
        return False
    body = {**(called.body or {}), "model": called.model}
    if "generationConfig" in body:
        body["config"] = body.pop("generationConfig")
    return worst_case(provider, makes_text=not _WITHOUT_OUTPUT.search(called.path))(body)


def _roughly(text: str) -> int:
    """How many tokens a text is, more or less."""
    return len(text) // 4 + 1


# -- what was used ----------------------------------------------------------------------------------------


def used_by(called: Endpoint, provider: str | None, whole: Json | None, events: Sequence[Json]) -> list[Used]:
    """The usage that an answer tells of; of a billed call that tells of none an estimate.

    Args:
        provider: what the price list calls whom was asked.
        whole: the answer, if it came in one piece.
        events: the pieces of a stream.
    """
    if called.speaks is None or not called.billed:
        return []
    answer = whole if whole is not None else _gathered(called.speaks, events)
    found = usage_of_wire(called.speaks, answer) if answer is not None else []
    told = [used for used in found if used.input or used.output]
    if not told and (whole is not None or events):
        return [_estimate(called, provider, whole, events)]
    return [
        priced(
            msgspec.structs.replace(
                used, model=used.model or called.model, provider=provider or used.provider
            )
        )
        for used in told
    ]


def _estimate(called: Endpoint, provider: str | None, whole: Json | None, events: Sequence[Json]) -> Used:
    """It costs what it costs, told or not."""
    said = _said(whole if whole is not None else list(events))
    made = 0 if _WITHOUT_OUTPUT.search(called.path) else _roughly(said)
    used = priced(
        Used(called.model, provider or called.speaks, _roughly(json.dumps(called.body or {})), made)
    )
    return msgspec.structs.replace(used, price=f"estimated, {used.price or 'no price'}")


def _said(value: Any) -> str:
    """The longest texts in an answer, which are what was said."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, Any]", value)
        inner = [part for name, part in mapping.items() if name in _SPEAKING or not isinstance(part, str)]
        return "".join(map(_said, inner))
    if isinstance(value, list):
        return "".join(map(_said, cast("Any", value)))
    return value if isinstance(value, str) else ""


_SPEAKING = frozenset(
    {"content", "text", "delta", "arguments", "partial_json", "reasoning_content", "thinking"}
)


def _gathered(speaks: Speaks, events: Sequence[Json]) -> Json | None:
    """What of a stream's pieces tells of usage, put together as it would be in an answer in one piece."""
    if speaks == "anthropic":
        return _message(events)
    if speaks == "google":
        return next((event for event in reversed(events) if event.get("usageMetadata")), None)
    for event in reversed(events):
        response = event.get("response")
        told = cast("Json", response) if isinstance(response, Mapping) else event
        if told.get("usage"):
            return told
    return None


def _message(events: Sequence[Json]) -> Json | None:
    begun = next((event["message"] for event in events if event.get("type") == "message_start"), None)
    if not isinstance(begun, Mapping):
        return None
    message = cast("Json", begun)
    usage: dict[str, Any] = {**_object(message.get("usage"))}
    for event in events:
        if event.get("type") == "message_delta":
            usage |= {name: value for name, value in _object(event.get("usage")).items() if value is not None}
    return {**message, "usage": usage}


# -- what is said ------------------------------------------------------------------------------------------


def text_in(speaks: Speaks | None, event: Json | None) -> str:
    """The text that a piece of a stream brings."""
    if speaks is None or event is None:
        return ""
    if speaks == "google":
        parts = _object(_object(_first(event.get("candidates"))).get("content")).get("parts")
        texts = [
            part.get("text")
            for part in map(_object, parts if is_list(parts) else [])
            if not part.get("thought")
        ]
        return "".join(text for text in texts if isinstance(text, str))
    text: Any
    if speaks == "anthropic":
        text = _object(event.get("delta")).get("text")
    elif event.get("type") == "response.output_text.delta":
        text = event.get("delta")
    else:
        choice = _object(_first(event.get("choices")))
        text = _object(choice.get("delta")).get("content") or choice.get("text")
    return text if isinstance(text, str) else ""


def _first(value: Any) -> Any:
    return value[0] if is_list(value) and value else None


# -- what went wrong --------------------------------------------------------------------------------------


def failed_in_stream(event: Json) -> int | None:
    """The status of an error that comes in a stream and goes by, None if this is no such error."""
    error: Any = event.get("error")
    if event.get("type") == "response.failed" and isinstance(event.get("response"), Mapping):
        error = event["response"].get("error")
    if not isinstance(error, Mapping):
        return None
    facts = cast("Json", error)
    for name in (facts.get("code"), facts.get("type")):
        if isinstance(name, str) and name in _IN_STREAM:
            return _IN_STREAM[name]
        if isinstance(name, int) and (name == 429 or name >= 500):
            return name
    return None


def message_of(text: str) -> str:
    """What a body says went wrong, in short."""
    try:
        body: Any = json.loads(text)
    except ValueError:
        body = None
    error: Any = cast("Json", body).get("error", body) if isinstance(body, Mapping) else None
    said: Any = cast("Json", error).get("message") if isinstance(error, Mapping) else error
    short: str = said if isinstance(said, str) else text
    return short if len(short) <= 500 else short[:500] + "..."
