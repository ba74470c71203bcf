"""Streams of the clients: their text goes to a stream of the run while it comes, and the pieces become the response.

The whole is put together as the provider would have sent it in one piece, as JSON, and then made into the response's
class like any other. A stream that ends before the provider has said that it is complete raises ConnectionError, and
its step is tried again.

    chat, litellm   deltas of messages; the usage is asked for
    responses       the last event has the whole response
    messages        blocks, deltas of blocks, and of the message
    google          responses with a part of the content each
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any, Protocol, cast

import msgspec

from perdure.ai.clients import Method, package_of
from perdure.ai.given import is_list, is_table
from perdure.ai.responses import Responses
from perdure.api.streams import emit
from perdure.core.answers import http_status
from perdure.core.refusals import refusal
from perdure.errors import UsageError


class Assembly(Protocol):
    """Puts a response together."""

    def take(self, piece: Any) -> str:
        """The next piece of the stream. Returns the text in it."""
        ...

    def whole(self) -> dict[str, Any] | None:
        """The response; None if it isn't complete."""
        ...


def streaming(method: Method, arguments: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """How to ask for a stream: by which method of the same resource, if not by the same, and with what.

    Raises:
        UsageError: that method's answers don't come in pieces.
    """
    kind = _kind(method)
    if kind is None:
        msg = f"the answers of {method.name} can't be streamed by llm(): leave out emit="
        raise UsageError(msg)
    if kind is _Google:
        return "generate_content_stream", arguments
    if kind is _Chat:
        said: Any = arguments.get("stream_options") or {}
        arguments = {**arguments, "stream_options": {**said, "include_usage": True}}
    return None, {**arguments, "stream": True}


def _kind(method: Method) -> type[_Chat | _Responses | _Messages | _Google] | None:
    if method.package == "litellm":
        return _Chat
    kinds: dict[tuple[str, str], type[_Chat | _Responses | _Messages | _Google]] = {
        ("openai", "chat.Completions.create"): _Chat,
        ("openai", "Responses.create"): _Responses,
        ("anthropic", "Messages.create"): _Messages,
        ("google", "Models.generate_content"): _Google,
    }
    return kinds.get((method.package, method.name))


async def assemble_async(method: Method, pieces: Any, stream: str, responses: Responses) -> Any:
    """Emit the text of a stream, and return the whole response."""
    assembly = _assembly(method)
    async with _closing_async(pieces) as coming:
        async for piece in coming:
            if text := assembly.take(piece):
                emit(stream, text)
    return _built(assembly, pieces, responses)


def assemble(method: Method, pieces: Any, stream: str, responses: Responses) -> Any:
    """The same for clients that block."""
    assembly = _assembly(method)
    with _closing(pieces) as coming:
        for piece in coming:
            if text := assembly.take(piece):
                emit(stream, text)
    return _built(assembly, pieces, responses)


_BROKEN = "the provider broke off its stream: {}"


def _broke_off(error: Exception) -> bool:
    """Whether a provider has begun to answer, and then told in the stream that it can't go on: it may another time."""
    is_clients = type(error).__name__ in ("APIError", "APIStatusError") and package_of(error) is not None
    return is_clients and http_status(error) in (None, 200) and refusal(error, time.time()) is None


@contextlib.asynccontextmanager
async def _closing_async(pieces: Any) -> AsyncGenerator[Any, None]:
    try:
        yield pieces
    except Exception as error:
        if _broke_off(error):
            raise ConnectionError(_BROKEN.format(error)) from error
        raise
    finally:
        close = getattr(pieces, "aclose", None) or getattr(pieces, "close", None)
        if close is not None:
            await close()


@contextlib.contextmanager
def _closing(pieces: Any) -> Generator[Any, None, None]:
    try:
        yield pieces
    except Exception as error:
        if _broke_off(error):
            raise ConnectionError(_BROKEN.format(error)) from error
        raise
    finally:
        if (close := getattr(pieces, "close", None)) is not None:
            close()


def _assembly(method: Method) -> Assembly:
    kind = _kind(method)
    assert kind is not None
    return kind()


def _built(assembly: Assembly, pieces: Any, responses: Responses) -> Any:
    data = assembly.whole()
    if data is None:
        msg = "the provider's stream ended before the response was complete"
        raise ConnectionError(msg)
    headers: Any = getattr(getattr(pieces, "response", None), "headers", {})
    if id := headers.get("x-request-id") or headers.get("request-id"):
        data["_request_id"] = id
    return responses.build(data)


def _json(piece: Any) -> dict[str, Any]:
    """A piece as the provider has sent it."""
    return cast(
        "dict[str, Any]", piece.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    )


class _Chat:
    """Choices grow by deltas; the usage comes last."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    def take(self, piece: Any) -> str:
        data = _json(piece)
        choices: list[dict[str, Any]] = data.pop("choices", None) or []
        self._whole.update({name: value for name, value in data.items() if value is not None})
        text = ""
        for choice in choices:
            own = self._choices.setdefault(choice["index"], {"message": {}})
            delta: dict[str, Any] = choice.pop("delta", None) or {}
            if choice["index"] == 0 and isinstance(delta.get("content"), str):
                text += delta["content"]
            _grow(own["message"], delta)
            _grow(own, {name: value for name, value in choice.items() if name != "logprobs"})
            if logprobs := choice.get("logprobs"):
                _grow(own.setdefault("logprobs", {}), logprobs)
        return text

    def whole(self) -> dict[str, Any] | None:
        choices = [self._choices[index] for index in sorted(self._choices)]
        if not choices or any(choice.get("finish_reason") is None for choice in choices):
            return None
        for choice in choices:
            message = choice["message"]
            message.setdefault("content", None)
            if message["content"] == "" and message.get("tool_calls"):
                message["content"] = None
            for call in message.get("tool_calls") or ():
                call.pop("index", None)
        return {**self._whole, "object": "chat.completion", "choices": choices}


#: Of these the last one counts; other texts are continued.
_SET = frozenset({"role", "id", "type", "finish_reason", "index", "name"})


def _grow(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Continue what is there by what has come."""
    for name, value in delta.items():
        known = whole.get(name)
        if known is None or name in _SET:
            if value is not None or name not in whole:
                whole[name] = value
            if is_list(value):
                whole[name] = []
                _extend(whole[name], value)
        elif isinstance(known, str) and isinstance(value, str):
            whole[name] = known + value
        elif is_table(known) and is_table(value):
            whole[name] = _grown(known, value)
        elif is_list(known) and is_list(value):
            _extend(known, value)
        elif value is not None:
            whole[name] = value


def _grown(known: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    whole = dict(known)
    _grow(whole, value)
    return whole


def _extend(known: list[Any], more: list[Any]) -> None:
    """Parts with an index continue the one that has it."""
    for part in more:
        index = part.get("index") if is_table(part) else None
        same = next((each for each in known if index is not None and each.get("index") == index), None)
        if same is None:
            known.append(part)
        else:
            _grow(same, part)


class _Responses:
    """The last event has it all."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] | None = None

    def take(self, piece: Any) -> str:
        if piece.type in ("response.completed", "response.incomplete", "response.failed"):
            self._whole = _json(piece)["response"]
        return piece.delta if piece.type == "response.output_text.delta" else ""

    def whole(self) -> dict[str, Any] | None:
        return self._whole


class _Messages:
    """A message, then its blocks, then what is known at its end."""

    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._arguments: dict[int, str] = {}
        self._complete = False

    def take(self, piece: Any) -> str:
        data = _json(piece)
        kind = data["type"]
        if kind == "message_start":
            self._message = data["message"]
        elif kind == "content_block_start":
            self._message["content"].append(data["content_block"])
        elif kind == "content_block_delta":
            return self._continue(data["index"], data["delta"])
        elif kind == "content_block_stop" and (arguments := self._arguments.pop(data["index"], "")):
            self._message["content"][data["index"]]["input"] = msgspec.json.decode(arguments)
        elif kind == "message_delta":
            usage: dict[str, Any] = data.pop("usage", None) or {}
            known = {name: value for name, value in usage.items() if value is not None}
            self._message.setdefault("usage", {}).update(known)
            self._message.update(data["delta"])
        elif kind == "message_stop":
            self._complete = True
        return ""

    def _continue(self, index: int, delta: dict[str, Any]) -> str:
        block = self._message["content"][index]
        kind = delta["type"]
        if kind == "text_delta":
            block["text"] = block.get("text", "") + delta["text"]
            return str(delta["text"])
        if kind == "input_json_delta":
            self._arguments[index] = self._arguments.get(index, "") + delta["partial_json"]
        elif kind == "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]
        else:  # a signature, say
            block.update({name: value for name, value in delta.items() if name != "type"})
        return ""

    def whole(self) -> dict[str, Any] | None:
        return self._message if self._complete else None


class _Google:
    """Each piece is a response; texts in a row are one."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}

    def take(self, piece: Any) -> str:
        # As Python values, since bytes are among them.
        data: dict[str, Any] = piece.model_dump(exclude_none=True, exclude={"sdk_http_response", "parsed"})
        candidates: list[dict[str, Any]] = data.pop("candidates", None) or []
        self._whole.update(data)
        text = ""
        for candidate in candidates:
            own = self._candidates.setdefault(candidate.get("index") or 0, {})
            content: dict[str, Any] = candidate.pop("content", None) or {}
            mine = own.setdefault("content", {"parts": []})
            parts: list[dict[str, Any]] = content.pop("parts", None) or []
            for part in parts:
                if own is self._candidates[min(self._candidates)] and not part.get("thought"):
                    text += part.get("text") or ""
                _join(mine["parts"], part)
            mine.update(content)
            own.update(candidate)
        return text

    def whole(self) -> dict[str, Any] | None:
        candidates = [self._candidates[index] for index in sorted(self._candidates)]
        if not candidates and "prompt_feedback" in self._whole:
            return self._whole
        if not candidates or any("finish_reason" not in candidate for candidate in candidates):
            return None
        return {**self._whole, "candidates": candidates}


def _join(parts: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a part, or continue the text before it."""
    plain = {"text", "thought"}
    before = parts[-1] if parts else None
    if (
        before is not None
        and set(part) <= plain
        and set(before) <= plain
        and "text" in part
        and "text" in before
        and bool(before.get("thought")) == bool(part.get("thought"))
    ):
        before["text"] += part["text"]
    else:
        parts.append(part)
