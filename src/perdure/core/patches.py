"""Changes of workflow code that old runs must not see: what a replay has to know of its history beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

from perdure.core.asking import Asking
from perdure.core.events import Patched

_PREFIX = "patch:"


class Past:
    """A history that is being replayed.

    Attributes:
        events: how many it has.
        patches: tells the ops of its Patched events. Asked only by code that calls `patched`.
    """

    __slots__ = ("events", "patches")

    def __init__(self, events: int, patches: Callable[[], Set[str]]) -> None:
        self.events = events
        self.patches = patches


def patch_op(change: str) -> str:
    """The op under which a change is recorded; the prefix keeps it apart from other records' ops."""
    return _PREFIX + change


def change_of(op: str) -> str:
    """The change's id."""
    return op.removeprefix(_PREFIX)


class Patching(Asking):
    """What code is told of its changes.

    Attributes:
        seq: number of the newest event fed.
        past: while a history is replayed, what it holds as a whole.
    """

    __slots__ = ("_patches", "past", "seq")

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.seq = 0
        self.past: Past | None = None
        self._patches: dict[str, bool] | None = None  # what the code was told, by op

    def patched(self, change: str, effects: Sequence[Any]) -> bool:
        """Whether the code is to take the new branch of a change. The answer is the same for ever.

        What is new takes it, and that is recorded. What is replayed takes it if the history says so. A call that
        the history ends at counts as new: nothing of what it leads to has been recorded yet.
        """
        self._check_inert()
        op = patch_op(change)
        answers = self._patches
        if answers is None:
            answers = self._patches = {}
        if op not in answers:
            past = self.past
            answers[op] = past is None or self.seq >= past.events or op in past.patches()
            if answers[op]:
                self.write_down(Patched(self.loop.now, op), effects)
        return answers[op]

    def _patch_noted(self, event: Patched, value: Any) -> None:
        """Code that doesn't ask any more fits, too: then the old branch is gone from it."""
        if self._patches is None:
            self._patches = {}
        self._patches[event.op] = True
        if self._records is not None and self._records.pop(event.op, None) is not None:
            self._fresh.pop(event.op, None)
