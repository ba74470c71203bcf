"""What tools of the Agents SDK return, as bytes and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec
from pydantic import BaseModel

from perdure.codec.values import ValueCodec
from perdure.errors import NotSerializableError, UndecodableError

_DEEPEST = 40
_OUTPUT = "$output"
_TYPED = "$typed"
_OWN = frozenset({_OUTPUT, _TYPED})
_UNKNOWN = object()


class OutputCarrier:
    """Carries what tools return: plain data as it is, the SDK's outputs and declared types as themselves.

    Anything else becomes the text that the SDK would make of it for the model.

    Args:
        declared: what the tool's function says that it returns, None if it says nothing.
        outputs: the SDK's models of structured outputs, by their `type`.
    """

    def __init__(self, declared: Any, outputs: Mapping[str, type[BaseModel]]) -> None:
        self._codec = None if declared is None else ValueCodec[Any](declared, "result of a tool")
        self._outputs = outputs

    def record(self, value: Any) -> tuple[bytes, Any]:
        """See `perdure.api.inline.Carrier`."""
        packed = self._pack(value)
        if packed is not _UNKNOWN:
            data = msgspec.json.encode(packed)
            return data, self.decode(data)
        if self._codec is not None:
            try:
                data = b'{"%s":%s}' % (_TYPED.encode(), self._codec.record(value)[0])
                return data, self.decode(data)
            except NotSerializableError:
                pass
        text = str(value)
        return msgspec.json.encode(text), text

    def decode(self, data: bytes) -> Any:
        """See `perdure.api.inline.Carrier`."""
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            msg = f"The recorded result of a tool can't be read: {error}. Its bytes are damaged"
            raise UndecodableError(msg) from error
        if isinstance(value, dict) and _TYPED in value:
            if self._codec is not None:
                return self._codec.decode(msgspec.json.encode(value[_TYPED]))
            value = cast("Any", value)[_TYPED]  # the function has no annotation any more
        return self._unpack(value)

    def _pack(self, value: Any, depth: int = 0) -> Any:
        kind = cast("Any", type(value))
        if value is None or kind in (str, bool) or (kind is int and -(2**53) < value < 2**53):
            return value
        if kind is float:
            return value if value - value == 0 else _UNKNOWN
        if depth > _DEEPEST:
            return _UNKNOWN
        if kind is list:
            parts = [self._pack(part, depth + 1) for part in value]
            return _UNKNOWN if _UNKNOWN in map(_mark, parts) else parts
        if kind is dict:
            names: list[Any] = list(value)
            if not all(type(name) is str for name in names) or not _OWN.isdisjoint(names):
                return _UNKNOWN
            parts = [self._pack(part, depth + 1) for part in value.values()]
            return _UNKNOWN if _UNKNOWN in map(_mark, parts) else dict(zip(names, parts, strict=True))
        for name, model in self._outputs.items():
            if kind is model:
                return {_OUTPUT: value.model_dump(mode="json", exclude_unset=True) | {"type": name}}
        return _UNKNOWN

    def _unpack(self, value: Any) -> Any:
        if isinstance(value, list):
            several: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
            return [self._unpack(part) for part in several]
        if isinstance(value, dict):
            fields = cast("dict[str, Any]", value)
            if _OUTPUT in fields:
                output = fields[_OUTPUT]
                return self._outputs[output["type"]].model_validate(output)
            return {name: self._unpack(part) for name, part in fields.items()}
        return value


def _mark(part: Any) -> Any:
    """Only what can't be packed; comparing values themselves may run anybody's code."""
    return part if part is _UNKNOWN else None
