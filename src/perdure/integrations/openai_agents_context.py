"""What tools change in the context that a run's agents share, kept beside what they return.

A tool's body isn't executed on replay, so what it has written into the context would be missing there, and the next
tool that looks for it would go wrong. So each call keeps the fields that were others after it than before, and a replay
sets them. Tools that execute at once may see each other's changes; set in the order in which the calls ended, they come
to what they came to before.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec

from perdure.api.inline import Carrier
from perdure.codec.values import ValueCodec
from perdure.errors import NotSerializableError, UsageError

_CHANGED = "$changed"
_VALUE = "$value"
_SCALARS = (str, int, float, bool, bytes, type(None))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call has returned, and the fields that it has changed: encoded, None of those that are gone."""

    value: Any
    changes: Mapping[str, bytes | None]


class OutcomeCarrier:
    """Carries outcomes. One without changes is carried as its value."""

    def __init__(self, values: Carrier) -> None:
        self._values = values

    def record(self, value: Outcome) -> tuple[bytes, Outcome]:
        """See `perdure.api.inline.Carrier`."""
        data, decoded = self._values.record(value.value)
        if value.changes:
            raw = {
                name: None if part is None else [msgspec.Raw(part)] for name, part in value.changes.items()
            }
            data = msgspec.json.encode({_CHANGED: raw, _VALUE: msgspec.Raw(data)})
        return data, Outcome(decoded, value.changes)

    def decode(self, data: bytes) -> Outcome:
        """See `perdure.api.inline.Carrier`."""
        if not data.startswith(b'{"%s"' % _CHANGED.encode()):
            return Outcome(self._values.decode(data), {})
        parts = msgspec.json.decode(data, type=_Recorded)
        changes = {name: None if part is None else bytes(part[0]) for name, part in parts.changed.items()}
        return Outcome(self._values.decode(bytes(parts.value)), changes)


class _Recorded(msgspec.Struct):
    changed: dict[str, tuple[msgspec.Raw] | None] = msgspec.field(name=_CHANGED)
    value: msgspec.Raw = msgspec.field(name=_VALUE)


class Snapshot:
    """The fields of a context at a moment."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._fields = dict(_fields(context))
        self._data = {name: _encoded(context, name, value) for name, value in self._fields.items()}

    def changes(self, tool: str) -> dict[str, bytes | None]:
        """What has changed since.

        Raises:
            UsageError: a field that can't be recorded is another object now.
        """
        changed: dict[str, bytes | None] = {}
        now = dict(_fields(self._context))
        for name, value in now.items():
            data, before = _encoded(self._context, name, value), self._data.get(name)
            if data is None:
                if name not in self._fields or self._fields[name] is not value:
                    msg = (
                        f"tool {tool!r} has changed {name!r} of the run's context to a {type(value).__qualname__}, "
                        "which can't be recorded, so that it would be missing after a crash: let it be plain data, or "
                        "annotate the field with a type that can be recorded"
                    )
                    raise UsageError(msg)
            elif data != before:
                changed[name] = data
        return changed | dict.fromkeys(self._fields.keys() - now.keys())


def apply(context: Any, changes: Mapping[str, bytes | None]) -> None:
    """Change a context as a call has changed it."""
    kind = cast("Any", type(context))
    keyed = issubclass(kind, dict)
    for name, data in changes.items():
        if data is None:
            _drop(context, keyed, name)
        else:
            _set(context, keyed, name, _codec(dict if keyed else kind, name).decode(data))


def _set(context: Any, keyed: bool, name: str, value: Any) -> None:
    if keyed:
        context[name] = value
    else:
        setattr(context, name, value)


def _drop(context: Any, keyed: bool, name: str) -> None:
    if keyed:
        context.pop(name, None)
    elif hasattr(context, name):
        delattr(context, name)


def _fields(context: Any) -> list[tuple[str, Any]]:
    if isinstance(context, _SCALARS):
        return []
    if isinstance(context, dict):
        mapping: dict[Any, Any] = context  # pyright: ignore[reportUnknownVariableType]
        return [(name, value) for name, value in mapping.items() if isinstance(name, str)]
    own: Any = getattr(context, "__struct_fields__", None) or getattr(context, "__dict__", ())
    names: list[str] = list(own)
    if dataclasses.is_dataclass(context):
        names = [field.name for field in dataclasses.fields(context)]
    return [(name, getattr(context, name)) for name in names if hasattr(context, name)]


def _encoded(context: Any, name: str, value: Any) -> bytes | None:
    """The field as it would be recorded, None if it can't be."""
    try:
        kind: Any = dict if isinstance(context, dict) else cast("Any", type(context))
        return _codec(kind, name).record(value)[0]
    except NotSerializableError:
        return None


@lru_cache(maxsize=1024)
def _codec(kind: Any, name: str) -> ValueCodec[Any]:
    annotation: Any = Any
    if kind is not dict:
        try:
            annotation = typing.get_type_hints(kind).get(name, Any)
        except Exception:  # names that are only there for type checkers  # noqa: BLE001
            annotation = Any
    return ValueCodec[Any](annotation, f"field {name} of the run's context")
