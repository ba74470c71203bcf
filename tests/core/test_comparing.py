"""How what two runs have done is set side by side."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core import events as ev
from perdure.core.comparing import ABSENT, Doing, changes, differences, doings, paired
from perdure.core.finding import fingerprint


def steps(*given: tuple[str, str, str]) -> list[Doing]:
    """Steps by id, input and result."""
    return doings(
        ev.StepCompleted(1.0, id, 1, 0.5, result.encode(), input.encode()) for id, input, result in given
    )


def told(a: list[Doing], b: list[Doing]) -> list[tuple[str | None, str | None, tuple[str, ...]]]:
    return [
        (
            None if one is None else one.id,
            None if other is None else other.id,
            () if one is None or other is None else changes(one, other),
        )
        for one, other in paired(a, b)
    ]


def test_a_step_that_was_put_in_doesnt_change_those_after_it() -> None:
    a = steps(("f#1", "x", "1"), ("f#2", "y", "2"), ("g#1", "z", "3"))
    b = steps(("f#1", "new", "0"), ("f#2", "x", "1"), ("f#3", "y", "2"), ("g#1", "z", "4"))
    assert told(a, b) == [
        (None, "f#1", ()),
        ("f#1", "f#2", ()),
        ("f#2", "f#3", ()),
        ("g#1", "g#1", ("result",)),
    ]


def test_what_has_the_same_id_and_another_input_has_changed() -> None:
    a = steps(("f#1", "x", "1"), ("f#2", "y", "2"), ("f#3", "w", "2"))
    b = steps(("f#1", "x", "1"), ("f#2", "z", "2"))
    assert told(a, b) == [("f#1", "f#1", ()), ("f#2", "f#2", ("input",)), ("f#3", None, ())]


def test_the_same_step_asked_twice_is_paired_in_order() -> None:
    a = steps(("poll#1", "x", "no"), ("poll#2", "x", "no"), ("poll#3", "x", "yes"))
    b = steps(("poll#1", "x", "no"), ("poll#2", "x", "yes"))
    assert told(a, b) == [("poll#1", "poll#1", ()), ("poll#2", "poll#2", ("result",)), ("poll#3", None, ())]


def test_doings_of_all_kinds() -> None:
    failure = ev.Failure("app.Error", "no")
    found = {
        doing.id: doing
        for doing in doings(
            [
                ev.RunStarted(0.0, "app.w", b"[[],{}]", b"seed"),
                ev.StepStarted(1.0, "slow#1", 1),
                ev.StepAttemptFailed(2.0, "tried#1", 2, failure, 3.0, 1.0),
                ev.StepFailed(3.0, "bad#1", 3, 2.0, failure, b"i"),
                ev.StepParked(3.0, "held#1", 1, 2.0, "why", unknown=True),
                ev.StepParked(3.0, "not#1", 0, 2.0, "why", refused=True),
                ev.StepCompleted(4.0, "big#1", 1, 3.0, b"1", fingerprint=fingerprint(b"i"), reused=True),
                ev.StepCompleted(4.0, "stub#1", 1, 4.0, b"1", b"i", stubbed=True),
                ev.ChildStarted(4.0, "kid#1", "r/kid#1", "app.kid", input=b"i"),
                ev.ChildEnded(6.0, "kid#1", "failed", failure=failure),
                ev.MessageSent(6.0, "send:1", "other", "hello", b"1", withheld=True),
                ev.MessageRefused(6.0, "send:2", "nobody", "hello", "unknown_run"),
                ev.Published(6.0, "publish:1", "happened", payload=b"1"),
            ]
        )
    }
    assert {id: doing.outcome for id, doing in found.items()} == {
        "slow#1": "running",
        "tried#1": "running",
        "bad#1": "failed",
        "held#1": "decision",
        "not#1": "refused",
        "big#1": "completed",
        "stub#1": "completed",
        "kid#1": "failed",
        "send:1": "withheld",
        "send:2": "unknown_run",
        "publish:1": "published",
    }
    assert found["big#1"].digest == found["stub#1"].digest
    assert (found["big#1"].seconds, found["stub#1"].seconds, found["bad#1"].seconds) == (None, None, 1.0)
    assert (found["kid#1"].seconds, found["tried#1"].attempts) == (2.0, 2)


_some = st.lists(st.tuples(st.sampled_from("fg"), st.integers(0, 3), st.integers(0, 2)), max_size=8)


@given(_some, _some)
def test_each_doing_is_told_once_and_equal_runs_are_the_same(a: list[Any], b: list[Any]) -> None:
    def made(drawn: list[Any]) -> list[Doing]:
        counts: dict[str, int] = {}
        found = []
        for name, input, result in drawn:
            counts[name] = counts.get(name, 0) + 1
            found.append((f"{name}#{counts[name]}", str(input), str(result)))
        return steps(*found)

    one, other = made(a), made(b)
    pairs = paired(one, other)
    assert [x.id for x, _ in pairs if x is not None] == [x.id for x in one]
    assert sorted(y.id for _, y in pairs if y is not None) == sorted(y.id for y in other)
    assert all(x is None or y is None or x.name == y.name for x, y in pairs)
    assert all(x is not None and y is not None and not changes(x, y) for x, y in paired(one, one))


@pytest.mark.parametrize(
    ("a", "b", "found"),
    [
        (1, 1, []),
        (1, 1.0, [("", 1, 1.0)]),
        (None, [], [("", None, [])]),
        ({"x": {"y": 1}}, {"x": {}}, [("x.y", 1, ABSENT)]),
        ([1], [1, {"z": 2}], [("1", ABSENT, {"z": 2})]),
        ({"a.b": 1}, {"a.b": 2}, [("a.b", 1, 2)]),
    ],
)
def test_differences(a: Any, b: Any, found: Any) -> None:
    assert differences(a, b) == found
