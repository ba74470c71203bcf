"""What a store does for steps that are executed elsewhere: it places their errands, and stops them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.core.errands import step_of
from perdure.storage.effects import Effect
from perdure.storage.records import NewRun


class StopErrand(Effect, frozen=True, gc=False):
    """With an append: the run doesn't need an errand any more that it has sent.

    One that no worker has begun ends here and now, as cancelled. One that has begun is asked to, or left alone.
    Nothing happens if it has ended.

    Attributes:
        errand: its public id.
        event: its last event, encoded, if it hasn't begun.
        tell: its parent is told then, as of any run that ends.
        request: mail for one that has begun, None to leave it alone. Its parent isn't told of its end any more.
    """

    errand: str
    event: bytes
    tell: bool = False
    request: bytes | None = None


def any_errand(children: Sequence[NewRun]) -> bool:
    """Whether any of these is an errand."""
    return any(step_of(child.workflow) is not None for child in children)


def placed(children: Sequence[NewRun], key: str | None, priority: int) -> list[NewRun]:
    """The same children; errands with the key and the priority of the run that sends them."""
    changes: dict[str, Any] = {"key": key, "priority": priority}
    return [
        child if step_of(child.workflow) is None else msgspec.structs.replace(child, **changes)
        for child in children
    ]
