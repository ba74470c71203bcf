"""How deeply values may be nested, how long histories may become, what texts can be kept: the pure parts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.depth import check_depth, too_deep
from perdure.codec.values import check_size
from perdure.core.bounds import DEPTH_MAX, LABEL_MAX, Bounds, mended, storable
from perdure.core.usage import Used
from perdure.errors import ConfigurationError, NotSerializableError, PayloadTooLargeError

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, 1, "", "[[{", 'a"]\\', "\\", "}]"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "[", '"{', "\\"]), inner)
    ),
    max_leaves=12,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(VALUES, st.integers(0, 9))
def test_a_depth_is_told_from_the_bytes(value: Any, most: int) -> None:
    for data in (json.dumps(value).encode(), json.dumps(value, indent=1, ensure_ascii=False).encode()):
        assert too_deep(data, most) == (depth(value) > most)


def test_payloads_are_bounded_in_bytes_and_depth() -> None:
    for brackets in (b"[]", b"{}"):
        key = b'"k":' if brackets == b"{}" else b""
        fits = (brackets[:1] + key) * (DEPTH_MAX - 1) + brackets + brackets[1:] * (DEPTH_MAX - 1)
        check_size(fits, 10_000, "result of step a")
        with pytest.raises(NotSerializableError, match=rf"result of step a is nested.*{DEPTH_MAX} arrays"):
            check_depth(b"[" + fits + b"]", "result of step a")
    check_size(b"[" * 5000 and b'"' + b"[" * 5000 + b'"', 10_000, "text")
    check_size(b"x" * 100, 100, "it")
    with pytest.raises(PayloadTooLargeError, match=r"it has 101 bytes, and the limit is 100.*max_payload"):
        check_size(b"x" * 101, 100, "it")


def test_a_history_is_told_of_and_then_full() -> None:
    bounds = Bounds(history_events=10, history_bytes=100, warn_events=5, warn_bytes=50)
    assert (bounds.full(9, 99), bounds.long(4, 49)) == (None, None)
    assert (bounds.least_events, bounds.least_bytes) == (5, 50)
    assert "10 events, and the limit is 10" in str(bounds.full(10, 0))
    assert "100 bytes, and the limit is 100" in str(bounds.full(0, 100))
    assert "5 events" in str(bounds.long(5, 0))
    assert "50 bytes" in str(bounds.long(0, 50))
    without = Bounds(history_events=None, history_bytes=None, warn_events=None, warn_bytes=None)
    assert min(without.least_events, without.least_bytes) > 1 << 60
    assert without.full(1 << 60, 1) is None
    for wrong in (0, -1, True, 1.5, "many"):
        with pytest.raises(ConfigurationError, match=r"history_bytes=.*whole number"):
            Bounds(history_bytes=wrong)  # type: ignore[arg-type]


def test_texts_are_mended_for_every_store() -> None:
    assert storable("añ\n\t🙂")
    assert not storable("a\0")
    assert not storable("\udc80")
    assert mended("a\0b\ud800c") == "a\\x00b\\ud800c"
    assert len(mended("x" * 1_000_000)) < 11_000
    used = Used(model="gpt\0", provider="\udcff" * 10, response="r" * 100_000)
    assert used.model == "gpt\\x00"
    assert storable(str(used.provider))
    assert len(str(used.response)) == LABEL_MAX
