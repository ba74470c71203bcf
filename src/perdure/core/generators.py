"""Keeps track of a run's async generators, so that each is closed at the same point on every replay.

One that loses its last reference while the code runs is closed there and then, as asyncio does it. One that
only the garbage collector finds (it is part of a cycle) would be closed at some arbitrary moment, in one place
live and in another on replay: it is kept instead, and closed when the workflow function is done.
"""

from __future__ import annotations

import sys
import weakref
from asyncio.events import _get_running_loop
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeAlias

_Generator: TypeAlias = AsyncGenerator[Any, Any]
_Hook: TypeAlias = Callable[[Any], object]


class Generators:
    """The async generators that were started and may still be open, in the order in which they began."""

    __slots__ = ("_begun", "_kept", "_prune_at")

    def __init__(self) -> None:
        self._begun: dict[int, weakref.ref[_Generator]] = {}
        self._kept: dict[int, _Generator] = {}
        self._prune_at = 64

    def begins(self, agen: _Generator) -> None:
        """Its first item was asked for."""
        key = id(agen)
        self._begun.pop(key, None)  # of one that is gone: addresses are used again
        self._begun[key] = weakref.ref(agen)
        if len(self._begun) >= self._prune_at:
            self._begun = {
                key: ref for key, ref in self._begun.items() if ref() is not None or key in self._kept
            }
            self._prune_at = 64 + 2 * len(self._begun)

    def keep(self, agen: _Generator) -> None:
        """The garbage collector found it."""
        self._kept[id(agen)] = agen

    def take_open(self) -> list[_Generator]:
        """Those neither finished nor closed, oldest first; they are tracked no longer."""
        found = [self._kept.get(key) or ref() for key, ref in self._begun.items()]
        self._begun.clear()
        self._kept.clear()
        return [agen for agen in found if agen is not None and getattr(agen, "ag_frame", None) is not None]

    def __bool__(self) -> bool:
        return bool(self._begun)


class Owner(Protocol):
    """The loop of a run, whose code begins async generators and drops them."""

    def generator_begins(self, agen: _Generator) -> None: ...
    def generator_dropped(self, agen: _Generator, *, collected: bool) -> None: ...


class Hooks:
    """A thread's hooks for async generators: those of workflow code go to its loop, all others where they went before.

    They stay when the code's turn is over. To set them for each turn and take them back cost 6 microseconds, an eighth
    of a step's time without the disk: Python reports each change to audit hooks.

    Args:
        outside: the hooks that were there before.
    """

    __slots__ = ("_outside", "_owners", "_prune_at")

    def __init__(self, outside: tuple[_Hook | None, _Hook | None]) -> None:
        self._outside = outside
        #: By address. Whatever begins passes here, so an entry is always of the newest generator at its address.
        self._owners: dict[int, tuple[weakref.ref[_Generator], weakref.ref[Owner]]] = {}
        self._prune_at = 64

    def begins(self, agen: _Generator) -> None:
        """Its first item was asked for."""
        loop: Any = _get_running_loop()
        if hasattr(loop, "generator_begins"):
            self._owners[id(agen)] = weakref.ref(agen), weakref.ref(loop)
            if len(self._owners) >= self._prune_at:
                self._owners = {key: both for key, both in self._owners.items() if both[0]() is not None}
                self._prune_at = 64 + 2 * len(self._owners)
            loop.generator_begins(agen)
            return
        self._owners.pop(id(agen), None)
        if (hook := self._outside[0]) is not None:
            hook(agen)

    def dropped(self, agen: _Generator) -> None:
        """Nobody has it any more."""
        # The collector finds generators that have more references: those of the cycle they are part of. (Whether it
        # is at work can't be told otherwise: from 3.12 on a collection may begin even after `gc.disable()`.)
        collected = sys.getrefcount(agen) > _LAST_REFERENCES
        both = self._owners.pop(id(agen), None)
        if both is None:
            if (hook := self._outside[1]) is not None:
                hook(agen)
        elif (owner := both[1]()) is not None:
            owner.generator_dropped(agen, collected=collected)


def watch() -> None:
    """Make sure that this thread's async generators pass through hooks of ours."""
    hooks = sys.get_asyncgen_hooks()
    if type(getattr(hooks[0], "__self__", None)) is not Hooks:
        ours = Hooks(hooks)
        sys.set_asyncgen_hooks(ours.begins, ours.dropped)


class _Probe:
    """Finds out how many references a generator has in its finalizer when the last one outside went away."""

    def __init__(self) -> None:
        self.references = 0

    def begins(self, agen: _Generator) -> None: ...

    def dropped(self, agen: _Generator) -> None:
        self.references = sys.getrefcount(agen)

    def find(self) -> int:
        async def generator() -> _Generator:
            yield None

        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(self.begins, self.dropped)
        try:
            agen = generator()
            try:
                agen.asend(None).send(None)
            except StopIteration:
                pass
            del agen
        finally:
            sys.set_asyncgen_hooks(*hooks)
        return self.references


_LAST_REFERENCES = _Probe().find()
