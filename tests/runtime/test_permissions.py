"""A permission of a rate limit holds from its moment on, and not for long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from perdure.core.permits import Permit
from perdure.runtime.gate import Pass


def permission(at: int, slack: int, *, blocked: bool = False) -> Pass:
    gate: Any = SimpleNamespace(blocks=0, blocked_since=lambda _: blocked)
    given = Pass(gate, (), {"limit": {"requests": 1}})
    given.permit = Permit(at, True, "limit", slack)
    return given


def test_it_holds_as_long_as_its_slack() -> None:
    given = permission(at=5_000_000, slack=500_000)
    assert [given.void(now) for now in (5.0, 5.25, 5.5, 5.6, 60.0)] == [False, False, False, True, True]
    assert given.until() == 5.5


def test_it_is_void_once_the_other_side_takes_no_more() -> None:
    assert permission(at=5_000_000, slack=500_000, blocked=True).void(5.0)


def test_without_an_answer_of_the_store_there_is_none() -> None:
    given = permission(at=5_000_000, slack=500_000)
    given.permit = None
    assert given.void(5.0)
