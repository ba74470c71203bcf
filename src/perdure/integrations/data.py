"""What crosses the border between a framework and histories: names, requests as data, results as bytes.

Results go through pydantic, since that is what the types of most clients are made with. Fields that nobody has set stay
unset: answers are sent back to models as they came, and a null more would be refused there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from hashlib import blake2b
from typing import Any, cast

from pydantic import BaseModel, TypeAdapter

from perdure.errors import NotSerializableError, UndecodableError

_NAME_MAX = 200  # characters of a step's name that come from a framework
_UNFIT = str.maketrans(dict.fromkeys("#[]/\n", "_"))
_TEXT_MAX = 100  # characters of a reason
_DEEPEST = 40


def step_name(*parts: str) -> str:
    """A durable name made of names that may hold anything.

    >>> step_name("Travel agent #2", "model")
    'Travel agent _2.model'
    """
    name = ".".join(part.translate(_UNFIT) for part in parts)
    name = "".join(char if char.isprintable() else "_" for char in name) or "_"
    return name if len(name) <= _NAME_MAX else f"{name[:_NAME_MAX]}~{_digest(name)}"


def step_key(id: str, before: int) -> str:
    """A step's key, of an id that a provider gave.

    Args:
        before: how many had the same id in this run. Ids ought to be unique, and some providers just count.

    >>> step_key("call_7", 0), step_key("call_7", 1)
    ('call_7', 'call_7~2')
    """
    if not id or len(id) > _NAME_MAX or not id.isprintable():
        id = _digest(id)
    return id if before == 0 else f"{id}~{before + 1}"


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def as_data(value: Any, depth: int = 0) -> Any:
    """Something of a framework's as plain JSON data; what has no such form is known by its type.

    Fields that have no value are left out, so that a version of it that knows more of them doesn't make other
    requests of the same conversation.
    """
    kind = cast("Any", type(value))
    if value is None or kind in (str, int, bool):
        return value
    if depth > _DEEPEST:
        return kind.__qualname__
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, Enum):
        return as_data(value.value, depth + 1)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, BaseModel):
        return as_data(value.model_dump(exclude_unset=True), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return as_data(fields, depth + 1)
    if isinstance(value, Mapping):
        mapping: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {str(name): as_data(part, depth + 1) for name, part in mapping.items() if part is not None}
    if isinstance(value, list | tuple):
        return [as_data(part, depth + 1) for part in cast("list[Any]", value)]
    if isinstance(value, bytes):
        return f"{len(value)} bytes, {blake2b(value, digest_size=8).hexdigest()}"
    return kind.__qualname__


class PydanticCarrier:
    """Carries values of a type that pydantic knows.

    Args:
        annotation: the type.
        what: what is carried, for messages: "response of a model".
    """

    def __init__(self, annotation: Any, what: str) -> None:
        self._annotation = annotation
        self._adapter: TypeAdapter[Any] | None = None
        self._what = what

    def record(self, value: Any) -> tuple[bytes, Any]:
        """See `perdure.api.inline.Carrier`."""
        adapter = self._known()
        try:
            data = adapter.dump_json(value, exclude_unset=True, by_alias=True, warnings=False)
            return data, adapter.validate_json(data)
        except Exception as error:  # validators and serializers raise what they like
            msg = f"The {self._what} can't be recorded: {_reason(error)}. It is a {type(value).__qualname__}"
            raise NotSerializableError(msg) from error

    def decode(self, data: bytes) -> Any:
        """See `perdure.api.inline.Carrier`."""
        try:
            return self._known().validate_json(data)
        except Exception as error:
            msg = (
                f"The recorded {self._what} can't be read: {_reason(error)}. The installed version of the package "
                "doesn't know it: install the one it was recorded with, and the run goes on by itself"
            )
            raise UndecodableError(msg) from error

    def _known(self) -> TypeAdapter[Any]:
        if self._adapter is None:  # takes a while for large unions, and not every program needs each
            self._adapter = TypeAdapter(self._annotation)
        return self._adapter


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."
