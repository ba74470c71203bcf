"""What somebody else has done to a store, as far as its listeners are told.

Each hint makes all other workers look. In a busy fleet most of them are about runs that have ended, which brings nobody
mail and makes nothing due: only who waits for an end needs to look then, be it for a result or for a place in a queue.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from perdure.core.status import FINAL
from perdure.storage.records import Append

_FINAL = frozenset(status.value for status in FINAL)


class Change(StrEnum):
    """What is worth a look."""

    ENDS = "ends"  #: runs have ended; nobody has got mail by it, and no run has become due
    ANYTHING = "anything"

    def beside(self, other: Change | None) -> Change:
        """Both in one."""
        return self if other is None or other is self else Change.ANYTHING


#: Called with what others have changed.
OnChange: TypeAlias = Callable[[Change], None]


def plain(append: Append) -> bool:
    """Whether an append changes nothing but its run's seq."""
    return not (
        append.status is not None
        or append.release
        or append.consumed
        or append.children
        or append.parent_mail
        or append.effects
        or append.successor
    )


def ends_alone(append: Append) -> bool:
    """Whether an append ends its run, and nothing else follows from it as far as its driver knows.

    Mail that the run has, and live children of which the driver knows nothing, are consequences after all.
    """
    return append.status in _FINAL and not (
        append.consumed or append.children or append.parent_mail or append.effects or append.successor
    )


def concerns_others(append: Append) -> bool:
    """Whether somebody may wait for what an append does besides growing a history."""
    return bool(
        append.release or append.children or append.parent_mail or append.effects or append.status in _FINAL
    )
