"""Keeps track of a run's async generators, so that each is closed at the same point on every replay.

One that loses its last reference while the code runs is closed there and then, as asyncio does it. One that
only the garbage collector finds (it is part of a cycle) would be closed at some arbitrary moment, in one place
live and in another on replay: it is kept instead, and closed when the workflow function is done.
"""

from __future__ import annotations

import gc
import sys
import weakref
from asyncio.events import _get_running_loop
from collections.abc import AsyncGenerator, Callable
from threading import get_ident
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
        collected = _collection.here()
        both = self._owners.pop(id(agen), None)
        if both is None:
            if (hook := self._outside[1]) is not None:
                hook(agen)
        elif (owner := both[1]()) is not None:
            owner.generator_dropped(agen, collected=collected)


class _Collection:
    """Knows whether the garbage collector is at work, and in which thread.

    How many references a generator has left doesn't tell: one of an older generation of objects goes with the last
    thing of a younger cycle that refers to it, exactly as if the code had dropped it. Nor does `gc.isenabled()`: from
    3.12 on a collection may begin even after `gc.disable()`.
    """

    __slots__ = ("_thread",)

    def __init__(self) -> None:
        self._thread: int | None = None

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """The collector begins or ends (`gc.callbacks`); it is never at work twice at a time."""
        self._thread = get_ident() if phase == "start" else None

    def here(self) -> bool:
        """What goes now, in this thread, goes because of the collector."""
        return self._thread is not None and self._thread == get_ident()


_collection = _Collection()


def watch() -> None:
    """Let this thread's async generators pass through hooks of ours, which the installed ones aren't."""
    ours = Hooks(sys.get_asyncgen_hooks())
    sys.set_asyncgen_hooks(ours.begins, ours.dropped)
    if _collection not in gc.callbacks:
        gc.callbacks.append(_collection)
