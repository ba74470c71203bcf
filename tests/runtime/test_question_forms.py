"""Fields of forms, and texts that are read into answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

import pytest

from perdure.api.forms import form_of
from perdure.codec.forms import schema_of


@dataclass
class Address:
    city: str
    zip_code: str | None = None


@dataclass
class Order:
    """What the customer wants."""

    item: str
    to: Address
    paid: bool = False
    count: int = 1
    weight: float = 0.5
    colour: Literal["red", "blue", 3] = "red"
    day: date | None = None
    tags: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    more: dict[str, int] = field(default_factory=dict)
    any: Any = None


FORM = form_of(schema_of(Order), {"item": "tea", "to": {"city": "Ulm"}, "count": 7})
FIELDS = {item.name: item for item in FORM.fields}


def test_a_form_has_a_field_for_each_place() -> None:
    assert (FORM.title, FORM.description) == ("Order", "What the customer wants.")
    kinds = {name: item.kind for name, item in FIELDS.items()}
    assert kinds == {
        "item": "text",
        "to.city": "text",
        "to.zip_code": "text",
        "paid": "boolean",
        "count": "integer",
        "weight": "number",
        "colour": "choice",
        "day": "date",
        "tags": "list",
        "sizes": "list",
        "more": "json",
        "any": "json",
    }
    assert [name for name, item in FIELDS.items() if item.required] == ["item", "to.city"]
    assert [name for name, item in FIELDS.items() if item.nullable] == ["to.zip_code", "day"]
    assert FIELDS["to.zip_code"].title == "Zip code"
    assert set(FIELDS["colour"].choices) == {"red", "blue", 3}
    begins = {name: FIELDS[name].value for name in ("item", "to.city", "count", "paid", "day")}
    assert begins == {"item": "tea", "to.city": "Ulm", "count": 7, "paid": False, "day": None}


@pytest.mark.parametrize(
    ("texts", "answer"),
    [
        ({"item": " tea ", "to.city": "Ulm"}, {"item": " tea ", "to": {"city": "Ulm"}}),
        ({"paid": "Yes", "count": " 3 ", "weight": "1e2"}, {"paid": True, "count": 3, "weight": 100.0}),
        ({"colour": "3"}, {"colour": 3}),
        ({"colour": '"red"'}, {"colour": "red"}),
        ({"day": "2026-05-01", "to.zip_code": "x"}, {"day": "2026-05-01", "to": {"zip_code": "x"}}),
        ({"day": "", "count": "", "more": ""}, {}),
        ({"to.zip_code": ""}, {"to": {"zip_code": None}}),
        ({"tags": "a, b", "sizes": "1,2"}, {"tags": ["a", "b"], "sizes": [1, 2]}),
        ({"tags": '["a,b"]', "more": '{"a": 1}'}, {"tags": ["a,b"], "more": {"a": 1}}),
        ({"any": "plain text"}, {"any": "plain text"}),
        ({"any": "[1]"}, {"any": [1]}),
    ],
)
def test_texts_become_an_answer(texts: dict[str, str], answer: Any) -> None:
    assert FORM.read(texts) == (answer, {})


def test_what_cant_be_read_is_told_by_field() -> None:
    texts = {
        "paid": "x",
        "count": "1.5",
        "weight": "x",
        "colour": "green",
        "sizes": "1,x",
        "more": "{",
        "no": "1",
    }
    answer, problems = FORM.read(texts)
    assert answer == {}
    assert set(problems) == set(texts)
    assert problems["paid"] == "expected yes or no, got 'x'"
    assert problems["count"] == "expected a whole number, got '1.5'"
    assert "expected red or blue or 3" in problems["colour"] or "blue" in problems["colour"]
    assert "there is no such field" in problems["no"]


@pytest.mark.parametrize(
    ("schema", "text", "answer"),
    [
        (schema_of(bool), "no", False),
        (schema_of(str), "x", "x"),
        (schema_of(int | None), "", None),
        ({}, "1", 1),
    ],
)
def test_a_plain_value_is_a_form_with_one_field(schema: Any, text: str, answer: Any) -> None:
    form = form_of(schema)
    assert [item.name for item in form.fields] == [""]
    assert form.read({"": text}) == (answer, {})
    assert "the answer is one value" in form.read({"x": "1"})[1]["x"]
