"""Takes out of a history what may be confidential, and leaves what a replay needs to take the same way.

Texts in results, messages and the like become as many x's. Numbers, true and false, the names of fields, the ids of
runs and the names of steps stay. What the code gave to steps and children is left out, so a replay can't compare
that. The seed of the run's random numbers, which is the key to its callbacks' tokens as well, is another one.

Code that goes by a text (an `if status == "paid"`) can't follow such a history; whoever redacts has to try it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from perdure.codec.events import decode_event, encode_event
from perdure.core import events as ev

# What becomes of events' fields of bytes. A test sees to it that each is in one of these.
KEPT = frozenset({"form"})
LEFT_OUT = frozenset({"fingerprint", "args", "given", "details", "default"})
SEEDS = frozenset({"seed"})
PAYLOADS = frozenset({"input", "result", "payload", "item", "values", "attributes", "detail", "state"})
#: Texts that people or programs have written.
TEXTS = frozenset({"message", "reason", "why", "text", "by", "problem", "unread", "doubt"})


def redacted(data: bytes) -> bytes:
    """An encoded event without what may be confidential."""
    return encode_event(_of_struct(decode_event(data)))


def _of_struct(struct: Any) -> Any:
    changed: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value: Any = getattr(struct, name)
        if value is None or value == "":
            continue
        if isinstance(struct, ev.Failure) and name in ("args", "state", "notes", "traceback"):
            changed[name] = {"notes": (), "traceback": ""}.get(name)
        elif _is(value, bytes):
            changed[name] = _of_bytes(struct, name, value)
        elif _is(value, str) and name in TEXTS:
            changed[name] = "x" * len(value)
        elif _is(value, msgspec.Struct):
            changed[name] = _of_struct(value)
        elif _is(value, tuple):
            changed[name] = tuple(
                _of_struct(item) if isinstance(item, msgspec.Struct) else item for item in value
            )
        elif _is(value, dict):
            changed[name] = {
                key: _of_payload(item) if isinstance(item, bytes) else item for key, item in value.items()
            }
    return msgspec.structs.replace(struct, **changed)


def _of_bytes(struct: Any, name: str, value: bytes) -> bytes | None:
    if name in SEEDS:
        return hashlib.blake2b(b"redacted", digest_size=max(1, min(64, len(value)))).digest()
    if name in KEPT:
        return value
    if name in LEFT_OUT or (name == "input" and not isinstance(struct, ev.RunStarted | ev.UpdateAccepted)):
        return None
    return _of_payload(value)


def _of_payload(data: bytes) -> bytes:
    try:
        return msgspec.json.encode(_of_json(msgspec.json.decode(data)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return b"null"


def _of_json(value: Any) -> Any:
    if isinstance(value, str):
        return "x" * len(value)
    if _is(value, list):
        return [_of_json(item) for item in value]
    if _is(value, dict):
        return {key: _of_json(item) for key, item in value.items()}
    return value


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)
