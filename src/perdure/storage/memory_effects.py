"""What appends do besides growing a history, in a memory database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.storage.records import Append, Effect, SendMessage


def _send(db: Any, append: Append, effect: SendMessage) -> None:
    run = db.find_id(effect.to)
    if run is not None:
        db.send_message(run, effect.data, append.now)


_WAYS: dict[type[Effect], Callable[[Any, Append, Any], None]] = {
    SendMessage: _send,
}


def take_effect(db: Any, append: Append, effect: Effect) -> None:
    """Do what an effect of a passed append says. `db` is the MemoryDatabase."""
    _WAYS[type(effect)](db, append, effect)
