"""Ids that LangGraph makes, the same on each replay.

LangGraph names checkpoints, and from those its tasks and interrupts, after the time and random bits, and gives
messages random ids. An interrupt's id is what people answer to, perhaps on another day; and what a thread's tasks have
written is found again by their ids. So in workflow code these ids come from the run: from its clock and its generator.
Outside of runs everything is as LangGraph has it.

LangGraph has no way to be given ids, so the names by which three of its modules call the makers of ids are bound to
others here; and one by which it makes tasks. What LangChain hands to threads (sync nodes, routers, tools and
callbacks) is called on the spot.
"""

from __future__ import annotations

import importlib
import uuid
import weakref
from asyncio.events import _get_running_loop
from collections.abc import Callable
from typing import Any

from perdure.api.call import current_machine
from perdure.api.context import now, uuid4
from perdure.core.forbidden import called_on_the_spot

#: From the beginning of the Gregorian calendar to that of Unix time, in units of 100 ns.
_GREGORIAN = 0x01B21DD213814000
#: By which of their modules LangChain and LangSmith hand sync functions to threads, and LangGraph puts things into its
#: streams as if from one.
_THREADS = (
    "langchain_core.runnables.config",
    "langchain_core.callbacks.manager",
    "langsmith._internal._aiter",
    "langgraph.pregel.main",
    "langgraph.pregel._messages",
    "langgraph.pregel._tools",
)
#: The newest moment of an id, by the loop of each run: several are made in one turn.
_newest: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def install() -> None:
    """Let LangGraph ask here for ids and tasks. Once; what isn't there (in another release, say) is left alone."""
    for module, name, make in _replaced():
        try:
            home = importlib.import_module(module)
        except ImportError:
            continue
        made = getattr(home, name, None)
        if made is not None and not hasattr(made, "of_perdure"):
            replacement = make(made)
            replacement.of_perdure = True
            setattr(home, name, replacement)
    called_on_the_spot.update(_THREADS)


def missing() -> list[str]:
    """The names that are asked here for nothing, since LangGraph has them no longer."""
    return [
        f"{module}.{name}"
        for module, name, _ in _replaced()
        if not hasattr(getattr(importlib.import_module(module), name, None), "of_perdure")
    ]


def _replaced() -> tuple[tuple[str, str, Callable[[Any], Any]], ...]:
    """By which module and name LangGraph calls something, and what makes a replacement of it."""
    return (
        ("langgraph.pregel._checkpoint", "uuid6", _ordered),
        ("langgraph.pregel._messages", "uuid4", _random),
        ("langgraph.graph.message", "uuid", _as_module),
        ("langgraph._internal._future", "_ensure_future", _by_the_loop),
    )


def _ordered(original: Callable[..., Any]) -> Any:
    def uuid6(node: int | None = None, clock_seq: int | None = None) -> Any:
        if current_machine() is None:
            return original(node, clock_seq)
        bits = uuid4().int
        moment = _moment()
        number = (bits if clock_seq is None else clock_seq) & 0x3FFF
        low = (bits >> 64) & 0xFFFFFFFFFFFF if node is None else node
        return uuid.UUID(
            int=(moment >> 12) << 80 | 6 << 76 | (moment & 0xFFF) << 64 | 2 << 62 | number << 48 | low
        )

    return uuid6


def _moment() -> int:
    loop = _get_running_loop()
    moment = max(int(now().timestamp() * 1e6) * 10 + _GREGORIAN, _newest.get(loop, 0) + 1)
    _newest[loop] = moment
    return moment


def follow(id: str) -> None:
    """In workflow code: what is named from now on comes after this checkpoint, whatever the clocks say."""
    try:
        parsed = uuid.UUID(id)
    except ValueError:
        return
    if parsed.version == 6:
        moment = (parsed.int >> 80) << 12 | (parsed.int >> 64) & 0xFFF
        loop = _get_running_loop()
        _newest[loop] = max(moment, _newest.get(loop, 0))


def _random(original: Callable[[], uuid.UUID]) -> Any:
    def make() -> uuid.UUID:
        return original() if current_machine() is None else uuid4()

    return make


class _Uuid:
    """The module uuid, but for its random ids in workflow code."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self.uuid4 = _random(original.uuid4)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _by_the_loop(original: Callable[..., Any]) -> Any:
    """From Python 3.12 LangGraph makes tasks that begin at once, and no loop hears of those: in a run they couldn't be
    numbered for replay, nor unwound when it leaves memory.
    """

    def ensure_future(coroutine: Any, **options: Any) -> Any:
        if current_machine() is not None:
            options["lazy"] = True
        return original(coroutine, **options)

    return ensure_future


def _as_module(original: Any) -> Any:
    return _Uuid(original)
