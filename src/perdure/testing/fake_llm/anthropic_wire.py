"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens, pieces
from perdure.testing.fake_llm.faults import Fault, Kind
from perdure.testing.fake_llm.limits import Standing
from perdure.testing.fake_llm.wire import Json, Refusal, event, retry_after, texts_of


class MessagesWire:
    """POST /v1/messages."""

    def read(self, path: str, body: Json) -> Prompt | None:
        if not path.endswith("/v1/messages"):
            return None
        said = texts_of(body.get("system"))
        said += [text for message in body["messages"] for text in texts_of(message.get("content"))]
        return Prompt(
            api="messages",
            model=body["model"],
            text="\n".join(said),
            last=said[-1] if said else "",
            stream=bool(body.get("stream")),
            max_tokens=body["max_tokens"],
            usage_in_stream=True,
            body=body,
        )

    def headers(self, standings: Mapping[str, Standing], now: float, number: int) -> dict[str, str]:
        headers = {"request-id": f"req_{number:08d}"}
        for name, standing in standings.items():
            for each in (name,) if name == "requests" else ("tokens", "input-tokens"):
                headers[f"anthropic-ratelimit-{each}-limit"] = str(standing.limit)
                headers[f"anthropic-ratelimit-{each}-remaining"] = str(standing.left)
                headers[f"anthropic-ratelimit-{each}-reset"] = _moment(now + standing.reset)
        return headers

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        return {
            **_head(prompt, number, _usage(tokens)),
            "content": _blocks(reply, number),
            "stop_reason": _reason(reply),
        }

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        events: list[bytes] = []

        def tell(kind: str, **data: Any) -> None:
            events.append(event({"type": kind, **data}, kind))

        begun = _usage(Tokens(tokens.input, 1, tokens.cached))
        tell("message_start", message={**_head(prompt, number, begun), "content": [], "stop_reason": None})
        for index, block in enumerate(_blocks(reply, number)):
            if block["type"] == "text":
                tell("content_block_start", index=index, content_block={"type": "text", "text": ""})
                deltas: list[Json] = [
                    {"type": "text_delta", "text": piece} for piece in pieces(block["text"])
                ]
            else:
                tell("content_block_start", index=index, content_block={**block, "input": {}})
                deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
            if index == 0:
                tell("ping")
            for delta in deltas:
                tell("content_block_delta", index=index, delta=delta)
            tell("content_block_stop", index=index)
        end = {"stop_reason": _reason(reply), "stop_sequence": None}
        tell("message_delta", delta=end, usage={"output_tokens": tokens.output})
        tell("message_stop")
        return events

    def refuse(self, fault: Fault, now: float) -> Refusal:
        status, kind, message = _REFUSALS[fault.kind]
        if fault.kind is Kind.USAGE_CAP and fault.until is not None:
            message += f" You will regain access on {fault.until.astimezone(UTC):%Y-%m-%d at %H:%M} UTC."
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_refused"}
        return Refusal(status, body, retry_after(fault))


_REFUSALS: dict[Kind, tuple[int, str, str]] = {
    Kind.RATE_LIMIT: (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    Kind.OVERLOADED: (529, "overloaded_error", "Overloaded"),
    Kind.SERVER_ERROR: (500, "api_error", "Internal server error"),
    Kind.BAD_REQUEST: (400, "invalid_request_error", "prompt is too long"),
    Kind.UNAUTHORISED: (401, "authentication_error", "invalid x-api-key"),
    Kind.USAGE_CAP: (400, "invalid_request_error", "You have reached your specified API usage limits."),
    Kind.QUOTA: (402, "billing_error", "Your credit balance is too low to access the API."),
}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _head(prompt: Prompt, number: int, usage: Json) -> dict[str, Any]:
    return {
        "id": f"msg_{prompt.digest}{number:06d}",
        "type": "message",
        "role": "assistant",
        "model": prompt.model,
        "stop_sequence": None,
        "usage": usage,
    }


def _reason(reply: Reply) -> str:
    return "tool_use" if reply.tools else "end_turn"


def _blocks(reply: Reply, number: int) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.text or not reply.tools:
        blocks.append({"type": "text", "text": reply.text})
    for index, tool in enumerate(reply.tools):
        id = f"toolu_{number:06d}_{index}"
        blocks.append({"type": "tool_use", "id": id, "name": tool.name, "input": dict(tool.arguments)})
    return blocks


def _usage(tokens: Tokens) -> Json:
    """Here what was read from the cache isn't part of the input."""
    return {
        "input_tokens": tokens.input - tokens.cached,
        "output_tokens": tokens.output,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached,
        "service_tier": "standard",
    }
