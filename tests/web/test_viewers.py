"""Viewers of values: whatever is recorded stays a text, or is a picture of a known kind; and all is bounded."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.events import Failure
from perdure.web.views.values import call_markup, failure_markup, picture, value_markup

ALLOWED = {
    "div", "ul", "li", "span", "p", "pre", "details", "summary", "figure", "img", "figcaption", "strong",
}  # fmt: skip


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {
            "class",
            "src",
            "alt",
            "open",
            "tabindex",
            "loading",
            "decoding",
        }
        self.images += [str(value) for name, value in attrs if name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    return reader


def shown(value: Any) -> Reader:
    return read(value_markup(json.dumps(value).encode()))


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 14))
        + chunk(b"IEND", b"")
    )


PNG = base64.b64encode(png()).decode()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    )
)
def test_any_value_is_only_text(value: Any) -> None:
    assert not shown(value).images


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</pre><svg onload=alert(1)>", "&lt;b&gt;"],
)
def test_markup_in_values_is_text(text: str) -> None:
    assert text in shown(text).text
    assert text in shown({text: [text]}).text
    assert text in read(failure_markup(Failure(text, text, traceback=text, notes=(text,)))).text


def test_invisible_characters_are_shown() -> None:
    assert shown("a\u202eb\x1b[0m\tc\nd").text == "a\\u202eb\\x1b[0m\tc\nd"


def test_pictures_are_shown_as_what_they_are() -> None:
    for text in (PNG, f"data:image/png;base64,{PNG}", f"data:text/html;base64,{PNG}"):
        assert shown({"chart": text}).images == [f"data:image/png;base64,{PNG}"]
    assert shown(PNG).images == [f"data:image/png;base64,{PNG}"]


def test_nothing_else_is_a_picture() -> None:
    svg = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'></svg>" * 2).decode()
    html = base64.b64encode(b"<script>alert(1)</script>" * 4).decode()
    for text in (
        f"data:image/svg+xml;base64,{svg}",
        f"data:image/png;base64,{svg}",
        f"data:text/html;base64,{html}",
        "data:image/svg+xml,<svg onload=alert(1)>",
        "https://example.com/tracker.png",
        "iVBORw0KGgo" + "!" * 60,
        "UklGR" + base64.b64encode(b"x" * 60).decode(),
        base64.b64encode(png(100_000, 100_000)).decode(),
    ):
        assert picture(text) is None
        assert not shown(text).images


def test_large_values_are_bounded_and_say_what_is_missing() -> None:
    markup = value_markup(json.dumps([{"n": i, "text": "x" * 1000} for i in range(5000)]).encode())
    assert len(markup) < 400_000
    assert "4,900 more" in markup
    long = value_markup(json.dumps("y" * 1_000_000).encode())
    assert len(long) < 250_000
    assert "800,000 more characters" in long
    assert len(shown([PNG] * 50).images) == 6


def test_deep_values_end() -> None:
    value: Any = 1
    for _ in range(400):
        value = [value]
    assert "…" in shown(value).text


def test_what_is_no_json_is_told_by_its_size() -> None:
    assert "3 bytes" in value_markup(b"\xff\xfe\x00")


def test_arguments_by_position_and_name() -> None:
    assert read(call_markup(b'[["only"],{}]')).text == "only"
    assert read(call_markup(b'[[1],{"more":2}]')).text == "11more2"
    assert read(call_markup(b"[[],{}]")).text == "no arguments"


def test_failures_tell_their_causes_and_members() -> None:
    inner = Failure("builtins.OSError", "no route", traceback="Traceback ...")
    outer = Failure("app.Declined", "card declined", cause=inner, members=(inner,), notes=("called by ann",))
    text = read(failure_markup(outer)).text
    assert "app.Declined" in text
    assert "caused by OSError" in text
    assert "one of the group: OSError" in text
    assert "called by ann" in text


def test_endless_causes_end() -> None:
    failure = Failure("E", "0")
    for number in range(200):
        failure = Failure("E", str(number), cause=failure)
    assert failure_markup(failure).count("caused by") == 19
