"""What nodes, tools and models return, as JSON in a run's history, and back.

Messages and commands become JSON that a person can read, marked by keys that begin with $; what has no such form is
packed by LangGraph's serializer, which builds only classes that it is allowed to. Live code goes on with what was
decoded, as replay will, and what would not come back as it was is refused in the first run.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from langchain_core.messages import AnyMessage, BaseMessage, RemoveMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Overwrite, Send
from pydantic import TypeAdapter

from perdure.codec.canonical import encode_canonical
from perdure.codec.foreign import encode_json
from perdure.codec.kinds import class_of
from perdure.errors import NotSerializableError, UndecodableError

_messages: TypeAdapter[Any] = TypeAdapter(AnyMessage)
_parse = msgspec.json.Decoder().decode
_COMMAND = [field.name for field in dataclasses.fields(Command)]


class GraphCarrier:
    """Carries what a node or tool returns.

    Args:
        where: what is carried, for messages: "result of node research".
        allow: classes that may be packed, besides messages and plain data.
    """

    def __init__(self, where: str, allow: Iterable[type] = ()) -> None:
        self.where = where
        self._serde = JsonPlusSerializer(allowed_msgpack_modules=list(allow) or None)

    def record(self, value: Any) -> tuple[bytes, Any]:
        """The JSON of a value, and the value that it decodes to.

        Raises:
            NotSerializableError: it has no form here; says where it is and what to do.
        """
        data = encode_json(self._plain(value, "it"))
        return data, self.decode(data)

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """The value that was recorded.

        Raises:
            UndecodableError: it isn't what this code writes.
        """
        try:
            return self._value(_parse(data))
        except Exception as error:
            msg = (
                f"The recorded {self.where} can't be read: {type(error).__name__}: {error}. It was written by other "
                "code, or the bytes are damaged. Bring back the code (or the class) that wrote it; the run goes on then"
            )
            raise UndecodableError(msg) from error

    def _plain(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value if type(value) in _PLAIN else self._packed(value, path)
        if isinstance(value, float):
            return value if math.isfinite(value) else self._packed(value, path)
        kind = class_of(value)
        if kind is dict:
            return self._dict(value, path)
        if kind is list:
            return [self._plain(item, f"{path}[{number}]") for number, item in enumerate(value)]
        if kind is tuple:
            return {"$tuple": self._plain(list(value), path)}
        if isinstance(value, BaseMessage):
            return self._message(value, path)
        if kind is Send:
            return {"$send": [value.node, self._plain(value.arg, f"{path}.arg")]}
        if kind is Overwrite:
            return {"$overwrite": self._plain(value.value, f"{path}.value")}
        if kind is Command:
            fields = {name: getattr(value, name) for name in _COMMAND}
            return {
                "$command": {name: self._plain(it, f"{path}.{name}") for name, it in fields.items() if it}
            }
        return self._packed(value, path)

    def _dict(self, value: dict[Any, Any], path: str) -> Any:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self._plain(item, f"{path}[{key!r}]") for key, item in value.items()}
        pairs = [[key, item] for key, item in value.items()]
        return {"$dict": self._plain(pairs, path)}

    def _message(self, message: BaseMessage, path: str) -> Any:
        artifact = getattr(message, "artifact", None)  # whatever a tool keeps beside what the model sees
        bare = message if artifact is None else message.model_copy(update={"artifact": None})
        try:
            shown = bare.model_dump(mode="json", warnings=False)
            if _messages.validate_python(_parse(encode_json(shown))) == bare:
                if artifact is not None:
                    shown["artifact"] = self._plain(artifact, f"{path}.artifact")
                return {"$message": shown}
        except NotSerializableError:
            raise
        except Exception:  # noqa: BLE001, S110 - whatever it doesn't like, the other way may
            pass
        return self._packed(message, path)

    def _packed(self, value: Any, path: str) -> Any:
        try:
            kind, data = self._serde.dumps_typed(value)
            back = self._serde.loads_typed((kind, data))
            same = type(back) is type(value) and bool(back == value or value != value)
        except Exception as error:
            raise self._refused(value, path) from error
        if not same:
            raise self._refused(value, path)
        return {"$packed": [kind, base64.b64encode(data).decode()]}

    def _refused(self, value: Any, path: str) -> NotSerializableError:
        name = type(value).__name__
        return NotSerializableError(
            f"The {self.where} can't be recorded: {path} is a {name}, which doesn't come back from data as what it is. "
            f"Return plain data or messages, or name the class: allow=[{name}]"
        )

    def _value(self, plain: Any) -> Any:
        kind = class_of(plain)
        if kind is list:
            return [self._value(item) for item in plain]
        if kind is not dict:
            return plain
        items: dict[str, Any] = plain
        if len(items) == 1:
            ((mark, inner),) = items.items()
            if mark in _MARKS:
                return _MARKS[mark](self, inner)
        return {key: self._value(item) for key, item in items.items()}

    def _read(self, shown: dict[str, Any]) -> Any:
        artifact = shown.pop("artifact", None)
        message = _messages.validate_python(shown)
        if artifact is not None:
            message.artifact = self._value(artifact)
        return message

    def _unpacked(self, inner: Any) -> Any:
        kind, data = inner
        return self._serde.loads_typed((kind, base64.b64decode(data)))


_PLAIN = frozenset({type(None), bool, int, str})
_MARKS: Mapping[str, Callable[[GraphCarrier, Any], Any]] = {
    "$message": lambda carrier, inner: carrier._read(inner),
    "$tuple": lambda carrier, inner: tuple(carrier._value(inner)),
    "$dict": lambda carrier, inner: dict(carrier._value(inner)),
    "$send": lambda carrier, inner: Send(inner[0], carrier._value(inner[1])),
    "$overwrite": lambda carrier, inner: Overwrite(carrier._value(inner)),
    "$command": lambda carrier, inner: Command(**carrier._value(inner)),
    "$packed": GraphCarrier._unpacked,
}


def given_of(value: Any) -> Any:
    """What an outcome depends on, as data: without the ids of messages, which are no matter of it.

    What has no form here stands as the name of its class: a change of it isn't noticed.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Mapping):
        return {str(key): given_of(item) for key, item in cast("Any", value).items()}
    if isinstance(value, list | tuple):
        return [given_of(item) for item in cast("Any", value)]
    if isinstance(value, BaseMessage):
        kept = {name: getattr(value, name) for name in type(value).model_fields if name not in _NO_MATTER}
        if isinstance(value, RemoveMessage):
            kept["id"] = value.id
        return given_of({name: item for name, item in kept.items() if item})
    kind = class_of(value)
    if kind in (Command, Send, Overwrite):
        return {kind.__name__: given_of(_fields_of(value))}
    try:
        return _parse(encode_canonical(value))
    except Exception:  # noqa: BLE001 - the serializers of a model are user code, and raise what they like
        return f"<{type(value).__qualname__}>"


#: Fields of messages that say nothing of what they mean.
_NO_MATTER = frozenset({"id", "response_metadata", "usage_metadata"})


def _fields_of(value: Any) -> dict[str, Any]:
    if isinstance(value, Send):
        return {"node": value.node, "arg": value.arg}
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
