"""Gemini's generateContent and streamGenerateContent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens, pieces
from perdure.testing.fake_llm.faults import Fault, Kind
from perdure.testing.fake_llm.limits import Standing
from perdure.testing.fake_llm.wire import Json, Refusal, event, texts_of

_PATH = re.compile(r"/models/(?P<model>[^/:]+):(?P<verb>generateContent|streamGenerateContent)$")
_TYPES = "type.googleapis.com/google.rpc"


class GenerateWire:
    """POST /v1beta/models/MODEL:generateContent. This provider tells of limits in the body of an error only."""

    def read(self, path: str, body: Json) -> Prompt | None:
        found = _PATH.search(path)
        if found is None:
            return None
        said = [*texts_of(body.get("systemInstruction")), *texts_of(body.get("contents"))]
        config: Mapping[str, Any] = body.get("generationConfig") or {}
        return Prompt(
            api="generate",
            model=found["model"],
            text="\n".join(said),
            last=said[-1] if said else "",
            stream=found["verb"] == "streamGenerateContent",
            max_tokens=config.get("maxOutputTokens"),
            usage_in_stream=True,
            body=body,
        )

    def headers(self, standings: Mapping[str, Standing], now: float, number: int) -> dict[str, str]:
        return {}

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        parts = [{"text": reply.text}] if reply.text or not reply.tools else []
        return _body(prompt, number, [*parts, *_calls(reply)], _usage(tokens), "STOP")

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        begun = {"promptTokenCount": tokens.input, "totalTokenCount": tokens.input}
        parts = [[{"text": piece}] for piece in pieces(reply.text)]
        if reply.tools:
            parts.append(_calls(reply))
        last = parts.pop()
        events = [event(_body(prompt, number, part, begun, None)) for part in parts]
        return [*events, event(_body(prompt, number, last, _usage(tokens), "STOP"))]

    def refuse(self, fault: Fault, now: float) -> Refusal:
        code, status, message = _REFUSALS[fault.kind]
        details: list[Json] = []
        if fault.kind in _QUOTAS:
            violation = {"quotaId": _QUOTAS[fault.kind], "quotaMetric": "generate_content_requests"}
            details.append({"@type": f"{_TYPES}.QuotaFailure", "violations": [violation]})
        if fault.retry_after is not None:
            details.append({"@type": f"{_TYPES}.RetryInfo", "retryDelay": f"{fault.retry_after:g}s"})
        error = {"code": code, "message": message, "status": status, "details": details}
        return Refusal(code, {"error": error})


_QUOTAS = {
    Kind.RATE_LIMIT: "GenerateRequestsPerMinutePerProjectPerModel",
    Kind.USAGE_CAP: "GenerateRequestsPerDayPerProjectPerModel",
    Kind.QUOTA: "GenerateRequestsPerDayPerProjectPerModel",
}
_SPENT = "You exceeded your current quota, please check your plan and billing details."
_REFUSALS: dict[Kind, tuple[int, str, str]] = {
    Kind.RATE_LIMIT: (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    Kind.OVERLOADED: (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    Kind.SERVER_ERROR: (500, "INTERNAL", "An internal error has occurred."),
    Kind.BAD_REQUEST: (400, "INVALID_ARGUMENT", "The input token count exceeds the maximum."),
    Kind.UNAUTHORISED: (401, "UNAUTHENTICATED", "API key not valid. Please pass a valid API key."),
    Kind.USAGE_CAP: (429, "RESOURCE_EXHAUSTED", _SPENT),
    Kind.QUOTA: (429, "RESOURCE_EXHAUSTED", _SPENT),
}


def _calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"functionCall": {"name": tool.name, "args": dict(tool.arguments)}} for tool in reply.tools]


def _body(prompt: Prompt, number: int, parts: Sequence[Json], usage: Json, reason: str | None) -> Json:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": prompt.model,
        "responseId": f"{prompt.digest}{number:06d}",
    }


def _usage(tokens: Tokens) -> Json:
    """Here what was thought isn't part of what the candidates have."""
    return {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.output,
        "cachedContentTokenCount": tokens.cached,
        "thoughtsTokenCount": tokens.reasoning,
    }
