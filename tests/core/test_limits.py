"""When a map has succeeded or failed, by counting."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.limits import Limits
from perdure.errors import UsageError


@pytest.mark.parametrize(
    ("given", "succeeded", "failed", "total", "broken"),
    [
        ({}, 5, 0, 10, False),
        ({}, 5, 1, 10, True),
        ({}, 0, 1, None, True),
        ({"max_failures": 2}, 0, 2, 10, False),
        ({"max_failures": 2}, 7, 3, 10, True),
        ({"max_failures": 0}, 0, 1, None, True),
        ({"max_failure_ratio": 0.29}, 0, 29, 100, False),
        ({"max_failure_ratio": 0.29}, 0, 30, 100, True),
        ({"max_failure_ratio": 0.1}, 0, 3, 30, False),
        ({"max_failure_ratio": 0.0}, 0, 1, 30, True),
        ({"max_failure_ratio": 1}, 0, 30, 30, False),
        ({"max_failure_ratio": 0.5}, 0, 9, None, False),  # of how many isn't known yet
        ({"max_failure_ratio": 0.5}, 0, 0, 0, False),
        ({"min_successful": 3}, 0, 7, 10, False),
        ({"min_successful": 3}, 0, 8, 10, True),
        ({"min_successful": 3}, 0, 800, None, False),
        ({"min_successful": 3}, 0, 0, 2, True),
        ({"min_successful": 3, "max_failures": 1}, 1, 2, 10, True),
        ({"max_failures": 9, "max_failure_ratio": 0.1}, 1, 2, 10, True),
    ],
)
def test_a_map_is_broken(
    given: dict[str, Any], succeeded: int, failed: int, total: int | None, broken: bool
) -> None:
    why = Limits(**given).broken(succeeded=succeeded, failed=failed, total=total)
    assert (why is not None) is broken
    if why is not None:
        assert all(name in why for name in given if len(given) == 1)
        assert f"{failed} of " in why


def test_enough_is_only_what_was_asked_for() -> None:
    assert not Limits().enough(10**9)
    assert not Limits(min_successful=3).enough(2)
    assert Limits(min_successful=3).enough(3)


@pytest.mark.parametrize(
    "given",
    [
        {"min_successful": 0},
        {"min_successful": True},
        {"min_successful": 1.5},
        {"max_failures": -1},
        {"max_failures": "1"},
        {"max_failure_ratio": -0.1},
        {"max_failure_ratio": 1.01},
        {"max_failure_ratio": float("nan")},
        {"max_failure_ratio": True},
        {"max_failure_ratio": "half"},
    ],
)
def test_numbers_out_of_range_are_told(given: dict[str, Any]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UsageError, match=f"map\\({name}={value!r}\\): give a "):
        Limits(**given)
