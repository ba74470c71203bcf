"""OpenAI's responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from perdure.testing.fake_llm.exchange import Prompt, Reply, Tokens, pieces
from perdure.testing.fake_llm.openai_wire import CREATED, OpenAIWire
from perdure.testing.fake_llm.wire import Json, event, texts_of


class ResponsesWire(OpenAIWire):
    """POST /v1/responses."""

    def read(self, path: str, body: Json) -> Prompt | None:
        if not path.endswith("/responses"):
            return None
        said = [*texts_of(body.get("instructions")), *texts_of(body.get("input"))]
        return Prompt(
            api="responses",
            model=body["model"],
            text="\n".join(said),
            last=said[-1] if said else "",
            stream=bool(body.get("stream")),
            max_tokens=body.get("max_output_tokens"),
            usage_in_stream=True,
            body=body,
        )

    def whole(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Json:
        return _response(prompt, number, _output(reply, number), "completed", tokens)

    def stream(self, prompt: Prompt, reply: Reply, tokens: Tokens, number: int) -> Sequence[bytes]:
        events: list[bytes] = []

        def tell(kind: str, **data: Any) -> None:
            events.append(event({"type": kind, "sequence_number": len(events), **data}, kind))

        begun = _response(prompt, number, [], "in_progress", None)
        tell("response.created", response=begun)
        tell("response.in_progress", response=begun)
        for index, item in enumerate(_output(reply, number)):
            empty = {**item, "status": "in_progress"}
            if item["type"] == "message":
                tell("response.output_item.added", output_index=index, item={**empty, "content": []})
                _tell_text(tell, index, item, reply.text)
            else:
                place = {"item_id": item["id"], "output_index": index}
                tell("response.output_item.added", output_index=index, item={**empty, "arguments": ""})
                tell("response.function_call_arguments.delta", **place, delta=item["arguments"])
                tell(
                    "response.function_call_arguments.done",
                    **place,
                    name=item["name"],
                    arguments=item["arguments"],
                )
            tell("response.output_item.done", output_index=index, item=item)
        tell("response.completed", response=self.whole(prompt, reply, tokens, number))
        return events


def _tell_text(tell: Any, index: int, item: Json, text: str) -> None:
    place = {"item_id": item["id"], "output_index": index, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
    tell("response.content_part.added", **place, part=part)
    for piece in pieces(text):
        tell("response.output_text.delta", **place, delta=piece, logprobs=[])
    tell("response.output_text.done", **place, text=text, logprobs=[])
    tell("response.content_part.done", **place, part={**part, "text": text})


def _output(reply: Reply, number: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.text or not reply.tools:
        part: dict[str, Any] = {"type": "output_text", "text": reply.text, "annotations": []}
        items.append(
            {
                "type": "message",
                "id": f"msg_{number:06d}",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    for index, tool in enumerate(reply.tools):
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{number:06d}_{index}",
                "call_id": f"call_{number:06d}_{index}",
                "status": "completed",
                "name": tool.name,
                "arguments": json.dumps(dict(tool.arguments)),
            }
        )
    return items


def _response(
    prompt: Prompt, number: int, output: Sequence[Json], status: str, tokens: Tokens | None
) -> Json:
    usage = None
    if tokens is not None:
        usage = {
            "input_tokens": tokens.input,
            "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
            "total_tokens": tokens.input + tokens.output,
        }
    return {
        "id": f"resp_{prompt.digest}{number:06d}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": prompt.body.get("instructions"),
        "max_output_tokens": prompt.max_tokens,
        "model": prompt.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": prompt.body.get("previous_response_id"),
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "metadata": {},
    }
