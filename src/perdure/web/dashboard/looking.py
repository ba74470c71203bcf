"""An engine that can only be looked at: what pages get, so that none changes anything past the gate by mistake.

What isn't on these lists isn't there for a page, new verbs included, until somebody has thought about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from perdure.api.engine import Engine

_ENGINE: Final = frozenset(
    {
        "awaited",
        "diff",
        "disk",
        "get",
        "overview",
        "publications",
        "question",
        "questions",
        "runs",
        "runs_page",
        "stuck",
        "subscriptions",
        "url",
        "usage",
        "workers",
        "workflows",
    }
)
_RUN: Final = frozenset(
    {
        "at",
        "change_of",
        "history",
        "id",
        "info",
        "interface",
        "result",
        "status",
        "step_logs",
        "stream",
        "streams",
        "usage",
        "why",
    }
)
_SCHEDULE: Final = frozenset({"name", "info"})

#: Of the parts of an engine what may be used, and of what their `get` hands out; None: that is data.
_PARTS: Final[Mapping[str, tuple[frozenset[str], frozenset[str] | None]]] = {
    "queues": (frozenset({"list", "get"}), None),
    "limits": (frozenset({"list", "get"}), None),
    "budgets": (frozenset({"list", "get"}), None),
    "entities": (frozenset({"kinds", "page"}), None),
    "schedules": (frozenset({"list", "get"}), _SCHEDULE),
}


def to_look_at(engine: Engine) -> Engine:
    """The engine, without what changes anything: using that raises AttributeError.

    Example:
        >>> looked = to_look_at(Engine("memory:"))
        >>> looked.start
        Traceback (most recent call last):
        AttributeError: pages can't use 'start' of Engine: what changes something goes through Desk.send
    """
    return cast("Engine", _Looking(engine, _ENGINE, _RUN, _PARTS))


class _Looking:
    def __init__(
        self,
        of: Any,
        allowed: frozenset[str],
        handed_out: frozenset[str] | None = None,
        parts: Mapping[str, tuple[frozenset[str], frozenset[str] | None]] | None = None,
    ) -> None:
        self._of = of
        self._allowed = allowed
        self._handed_out = handed_out
        self._parts = parts or {}

    def __getattr__(self, name: str) -> Any:
        if name in self._parts:
            return _Looking(getattr(self._of, name), *self._parts[name])
        if name not in self._allowed:
            kind = type(self._of).__name__
            msg = f"pages can't use {name!r} of {kind}: what changes something goes through Desk.send"
            raise AttributeError(msg)
        found = getattr(self._of, name)
        if name != "get" or self._handed_out is None:
            return found
        allowed = self._handed_out
        return lambda *args, **kwargs: _Looking(found(*args, **kwargs), allowed)
