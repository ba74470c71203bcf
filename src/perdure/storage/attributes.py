"""Attributes and code versions of runs: what a store promises about finding runs by what is known of them.

Attributes belong to a run and go over to its next generation. A change of one replaces it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from perdure.core.attributes import Attribute
from perdure.storage.effects import Effect
from perdure.storage.records import Delivery


class SetAttributes(Effect, frozen=True, gc=False):
    """With an append: change the run's attributes."""

    attributes: Sequence[Attribute]


class MarkPatched(Effect, frozen=True, gc=False):
    """With an append: remember that the run took the new branch of a change of its code."""

    change: str


class Misfit(Effect, frozen=True, gc=False):
    """With an append that blocks the run: this code can't drive it, and needn't try again.

    If a registered worker with the run's workflow and queue has other code, the run stays due for that one.
    """

    code: str


class Attributes(Protocol):
    """The part of a store that keeps attributes. Every verb is one transaction."""

    async def set(self, id: str, attributes: Sequence[Attribute], event: bytes, *, now: float) -> Delivery:
        """Change a run's attributes from outside, and put `event` into its inbox for its history.

        That item wakes nobody: the run takes it when it is driven anyway. An ended run's attributes change,
        too, without an event (RUN_ENDED).
        """
        ...

    async def of(self, runs: Sequence[int]) -> Mapping[int, Sequence[Attribute]]:
        """The attributes of these runs, by name; runs without any may be left out."""
        ...
