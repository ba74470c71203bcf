"""OpenAI's chat completions, and what they share with its responses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens, pieces
from perdure.testing.fake_llm.faults import Fault, Kind
from perdure.testing.fake_llm.limits import Standing
from perdure.testing.fake_llm.wire import Json, Refusal, event, retry_after, texts_of

#: When every answer was made, so that equal requests get equal answers.
CREATED = 1_750_000_000


def span(seconds: float) -> str:
    """A length of time as OpenAI's headers give it: `12ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(seconds // 60)}m{round(seconds % 60)}s"


class OpenAIWire:
    """What both of OpenAI's formats answer alike."""

    def headers(self, standings: Mapping[str, Standing], now: float, number: int) -> dict[str, str]:
        headers = {"x-request-id": f"req_{number:08d}"}
        for name, standing in standings.items():
            headers[f"x-ratelimit-limit-{name}"] = str(standing.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(standing.left)
            headers[f"x-ratelimit-reset-{name}"] = span(standing.reset)
        return headers

    def refuse(self, fault: Fault, now: float) -> Refusal:
        status, kind, code, message = _REFUSALS[fault.kind]
        headers = retry_after(fault)
        if headers:
            assert fault.retry_after is not None
            headers["retry-after-ms"] = str(int(fault.retry_after * 1000))
        if fault.kind is Kind.RATE_LIMIT and fault.retry_after is not None:
            message = f"{message} Please try again in {span(fault.retry_after)}."
        error = {"message": message, "type": kind, "param": None, "code": code}
        return Refusal(status, {"error": error}, headers)


_BILLING = "You exceeded your current quota, please check your plan and billing details."
_REFUSALS: dict[Kind, tuple[int, str, str | None, str]] = {
    Kind.RATE_LIMIT: (429, "requests", "rate_limit_exceeded", "Rate limit reached for this model."),
    Kind.OVERLOADED: (
        503,
        "server_error",
        None,
        "The engine is currently overloaded, please try again later.",
    ),
    Kind.SERVER_ERROR: (500, "server_error", None, "The server had an error while processing your request."),
    Kind.BAD_REQUEST: (400, "invalid_request_error", "context_length_exceeded", "The input is too long."),
    Kind.UNAUTHORISED: (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    Kind.USAGE_CAP: (
        429,
        "insufficient_quota",
        "billing_hard_limit_reached",
        "Billing hard limit has been reached.",
    ),
    Kind.QUOTA: (429, "insufficient_quota", "insufficient_quota", _BILLING),
}


class ChatWire(OpenAIWire):
    """POST /v1/chat/completions."""

    def read(self, path: str, body: Json) -> Prompt | None:
        if not path.endswith("/chat/completions"):
            return None
        said = [text for message in body["messages"] for text in texts_of(message.get("content"))]
        options: Mapping[str, Any] = body.get("stream_options") or {}
        return Prompt(
            api="chat",
            model=body["model"],
            text="\n".join(said),
            last=said[-1] if said else "",
            stream=bool(body.get("stream")),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            usage_in_stream=bool(options.get("include_usage")),
            body=body,
        )

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None, "refusal": None}
        if reply.tools:
            message["tool_calls"] = _tool_calls(reply, number)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(reply)}
        return {**_head(prompt, "chat.completion", number), "choices": [choice], "usage": _usage(tokens)}

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        head = _head(prompt, "chat.completion.chunk", number)

        def chunk(delta: Json, reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
            return event({**head, "choices": [choice]})

        events = [chunk({"role": "assistant", "content": "", "refusal": None})]
        events += [chunk({"content": piece}) for piece in pieces(reply.text) if piece]
        for index, tool in enumerate(_tool_calls(reply, number)):
            events.append(chunk({"tool_calls": [{"index": index, **tool}]}))
        events.append(chunk({}, _reason(reply)))
        if prompt.usage_in_stream:
            events.append(event({**head, "choices": [], "usage": _usage(tokens)}))
        return [*events, event("[DONE]")]


def _head(prompt: Prompt, kind: str, number: int) -> dict[str, Any]:
    id = f"chatcmpl-{prompt.digest}{number:06d}"
    return {"id": id, "object": kind, "created": CREATED, "model": prompt.model, "service_tier": "default"}


def _reason(reply: Reply) -> str:
    return "tool_calls" if reply.tools else "stop"


def _tool_calls(reply: Reply, number: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"call_{number:06d}_{index}",
            "type": "function",
            "function": {"name": tool.name, "arguments": json.dumps(dict(tool.arguments))},
        }
        for index, tool in enumerate(reply.tools)
    ]


def _usage(tokens: Tokens) -> Json:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }
