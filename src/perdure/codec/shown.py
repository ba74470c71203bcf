"""Events as people get to see them: without values of secrets, and as the redactions in force leave them.

Only what is shown is changed. A result stays in the history as it was recorded, since a replay goes on with it.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from perdure.codec.kinds import is_dict, is_sequence
from perdure.codec.redaction import active, mask, mask_json

__all__ = ["shown"]

E = TypeVar("E", bound=msgspec.Struct)

#: Texts that people or programs have written. All others are names and ids, by which things are found.
TEXTS: Final = frozenset(
    {
        "message",
        "reason",
        "why",
        "text",
        "by",
        "problem",
        "unread",
        "doubt",
        "traceback",
        "detail",
        "what",
        "todo",
        "note",
    }
)
#: Bytes that aren't payloads.
DIGESTS: Final = frozenset({"fingerprint", "seed"})


def shown(event: E) -> E:
    """An event, or any other record, for people. It is the same object while nothing is redacted."""
    return _shown(event) if active() else event


def _shown(struct: E) -> E:
    changes: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value is not None and name not in DIGESTS and (made := _part(name, value)) is not value:
            changes[name] = made
    return msgspec.structs.replace(struct, **changes) if changes else struct


def _part(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return mask_json(value)
    if isinstance(value, str):
        return mask(value) if name in TEXTS else value
    if isinstance(value, msgspec.Struct):
        return _shown(value)
    if is_sequence(value):
        inner = "text" if name == "notes" else ""
        made = tuple(_part(inner, part) for part in value)
        return made if any(one is not other for one, other in zip(made, value, strict=True)) else value
    if is_dict(value):
        return {key: _part("", part) for key, part in value.items()}
    return value
