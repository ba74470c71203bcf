"""The attributes of runs in a memory database, and finding runs by them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.core.attributes import Attribute, Condition
from perdure.storage.attributes import MarkPatched, SetAttributes
from perdure.storage.records import Append, Delivery

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class MemoryAttributes:
    """The verbs of Attributes on a memory database.

    Args:
        database: gives the MemoryDatabase if the store is open.
        changed: tells the other stores.
    """

    def __init__(self, database: Callable[[], Any], changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        db = self._database()
        run = db.find_id(id)
        if run is None:
            return Delivery.UNKNOWN_RUN
        run.set_attributes(attributes)
        self._changed()
        return Delivery.DELIVERED if db.deliver(run, event, None) else Delivery.RUN_ENDED

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        db = self._database()
        return {
            key: [db.runs[key].attributes[name] for name in sorted(db.runs[key].attributes)]
            for key in runs
            if key in db.runs and db.runs[key].attributes
        }


def set_attributes(db: Any, append: Append, effect: SetAttributes) -> None:
    """The effect of an append that changes attributes."""
    db.runs[append.run].set_attributes(effect.attributes)


def mark_patched(db: Any, append: Append, effect: MarkPatched) -> None:
    """The effect of an append by which a run took the new branch of a change."""
    db.runs[append.run].patches.add(effect.change)


def holds(condition: Condition, run: Any) -> bool:
    """Whether a condition holds for a run."""
    attribute = run.attributes.get(condition.name)
    if attribute is None:
        return False
    compare = _COMPARE[condition.operator]
    return any(
        family == attribute.family and compare(value, wanted)
        for family, wanted in condition.choices
        for value in attribute.values
    )
