"""Conditions on payloads: what fits, and the digests by which waits are found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.where import (
    certain_fields,
    fits,
    group_of,
    match_of_payload,
    match_of_where,
    told,
    where_of,
    where_text,
)


@pytest.mark.parametrize(
    ("where", "payload", "fitting"),
    [
        ({}, None, True),
        ({}, [1, 2], True),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": [1]}, False),
        ({"a": 1}, [1], False),
        ({"a": 1}, None, False),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, "text", True),
        ({"a": None}, {"a": {}}, False),
        ({"a": ""}, {}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, False),
        ({"a.b": 1}, {"a": [{"b": 1}]}, False),
        ({"a": [1, "x"]}, {"a": "x"}, True),
        ({"a": [1, "x"]}, {"a": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
    ],
)
def test_what_fits(where: dict[str, Any], payload: Any, fitting: bool) -> None:
    assert fits(where_of(where_text(where)), payload) is fitting


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-3, 3)
    | st.sampled_from(["", "a", "1", "true"])
)
fields = st.sampled_from(["a", "b", "c.d"])
conditions = st.dictionaries(fields, scalars | st.lists(scalars, min_size=1, max_size=3), max_size=3)
payloads = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    scalars | st.dictionaries(st.just("d"), scalars) | st.lists(scalars, max_size=2),
    max_size=3,
)


@given(conditions, payloads)
def test_whoever_fits_is_found_by_its_digest(where: dict[str, Any], payload: dict[str, Any]) -> None:
    """And nobody but those who fit in the fields that must have one certain value."""
    where = where_of(where_text(where))
    certain = certain_fields(where)
    found = match_of_payload("n", certain, payload) == match_of_where("n", where)
    assert found is fits({field: where[field] for field in certain}, payload)
    if fits(where, payload):
        assert found


def test_digests_tell_apart() -> None:
    made = {
        match_of_where(name, where)
        for name in ("n", "m")
        for where in ({}, {"a": 1}, {"a": "1"}, {"a": True}, {"a": None}, {"b": 1}, {"a": 1, "b": 1})
    }
    assert len(made) == 14
    assert match_of_where("n", {"a": 1, "b": [1]}) == match_of_where("n", {"a": 1})
    assert match_of_payload("n", ["a"], {"a": {}}) is None


def test_conditions_that_mean_the_same_are_the_same_text() -> None:
    assert where_text({"b": 1.0, "a": "x"}) == where_text({"a": "x", "b": 1}) == '{"a":"x","b":1}'
    assert where_text({}) == ""
    assert where_of("") == {}


def test_conditions_for_people() -> None:
    assert told(where_text({"customer": "c-7", "kind": ["a", 2, None], "on": True})) == (
        "customer = c-7, kind = a or 2 or null, on = true"
    )
    assert told("") == ""


def test_groups() -> None:
    assert group_of(None, {"a": 1}) == group_of(None, None) == ""
    assert group_of("a", {"a": 1}) == group_of("a", {"a": 1.0})
    assert group_of("a", {"a": 1}) != group_of("a", {"a": "1"})
    assert group_of("a", {}) == group_of("a", "text") == "null"
    assert len(group_of("a", {"a": "x" * 1000})) < 200
