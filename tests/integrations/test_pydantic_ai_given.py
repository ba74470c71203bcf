"""What replays and forks compare of an agent's requests: what a model is told, and nothing that changes by itself."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from perdure.integrations.pydantic_ai_given import as_data

EARLY, LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def conversation(when: datetime, run: str, text: str = "hi", used: int = 1) -> list[ModelMessage]:
    return [
        ModelRequest(parts=[UserPromptPart(text, timestamp=when)], run_id=run, timestamp=when),
        ModelResponse(
            parts=[TextPart("hello"), ToolCallPart("t", {"a": 1}, tool_call_id="c")],
            usage=RequestUsage(input_tokens=used),
            timestamp=when,
            provider_response_id=run,
            run_id=run,
        ),
    ]


def test_what_changes_by_itself_doesnt_count() -> None:
    assert as_data(conversation(EARLY, "a", used=1)) == as_data(conversation(LATE, "b", used=2))


def test_what_a_model_is_told_counts() -> None:
    first = as_data(conversation(EARLY, "a"))
    assert first != as_data(conversation(EARLY, "a", text="ho"))
    pictures = [as_data(BinaryContent(data, media_type="image/png")) for data in (b"1", b"2", b"1")]
    assert pictures[0] == pictures[2] != pictures[1]


def test_ids_that_nobody_gave_dont_count() -> None:
    tools = [
        ToolDefinition(name="t", description="d", toolset_id=id) for id in ("<toolset:1>", "<toolset:2>")
    ]
    assert as_data(tools[0]) == as_data(tools[1])
    assert as_data(tools[0]) != as_data(ToolDefinition(name="t", description="e"))


def test_a_new_field_with_its_default_makes_no_other_request() -> None:
    @dataclasses.dataclass
    class Old:
        text: str

    @dataclasses.dataclass
    class New:
        text: str
        tone: str | None = None
        strict: bool = False
        notes: list[str] = dataclasses.field(default_factory=list)

    New.__name__ = "Old"
    assert as_data(New("x")) == as_data(Old("x"))
    assert as_data(New("x", strict=True)) != as_data(Old("x"))


class Colour(Enum):
    RED = "red"


class Model(BaseModel):
    size: int = 1
    name: str | None = None


class Struct(msgspec.Struct):
    size: int = 1


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({1: {"b", "a"}}, {"1": ["a", "b"]}),
        ((1, 2.5, None, True), [1, 2.5, None, True]),
        (float("inf"), "inf"),
        (Colour.RED, "red"),
        (Model(size=2), {"is": "Model", "size": 2}),
        (Model(), {"is": "Model"}),
        (Struct(3), {"is": "Struct", "size": 3}),
        (print, "builtin_function_or_method"),
        (object(), "object"),
    ],
)
def test_values_have_one_form(value: Any, data: Any) -> None:
    assert as_data(value) == data


def test_circles_end() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert msgspec.json.encode(as_data(circle))
