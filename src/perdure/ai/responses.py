"""Responses of the clients as bytes, and back, equal to what they were.

Clients build their responses leniently: a field that the provider leaves out is missing, one that it has added is
kept. So they don't pass a validation, and are rebuilt here as the client has built them: by its own class, from the
JSON that the provider has sent. Which class that is, the signature of the called method tells, never the recorded
data; so a history outlives renamed classes, and nothing in it can name code.

    openai, anthropic, litellm   the JSON as it came, and the provider's id of the request
    google                       the fields that are set; what was parsed from the text is parsed again

Headers aren't part of it.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from functools import lru_cache
from typing import Any

import msgspec

from perdure.codec.foreign import is_model, is_model_class
from perdure.errors import NotSerializableError, UndecodableError, UsageError

#: The clients whose responses can be carried.
PACKAGES = frozenset({"openai", "anthropic", "google", "litellm"})
#: What the clients note beside the answer's body.
_NOTES = ("_request_id", "_workspace_id")


class Responses:
    """Carries the responses of one method.

    Args:
        kind: their class.
        where: what is carried, for messages.
        schema: as what a text is parsed, if the call says so.
    """

    __slots__ = ("_google", "_schema", "_where", "kind")

    def __init__(self, kind: Any, where: str, schema: Any = None) -> None:
        self._google = kind.__module__.startswith("google.")
        self.kind = kind if self._google or schema is None else _filled(kind, schema)
        self._where = where
        self._schema = schema

    def record(self, value: Any) -> tuple[bytes, Any]:
        """The bytes, and the response as they give it back.

        Raises:
            NotSerializableError: it isn't a response of this method.
        """
        data = self.encode(value)
        return data, self.decode(data)

    def encode(self, value: Any) -> bytes:
        """The response as JSON.

        Raises:
            NotSerializableError: as for `record`.
        """
        if not _is_response(value):
            msg = (
                f"The {self._where} can't be recorded: the method returned a {type(value).__qualname__}, not the "
                f"{self.kind.__qualname__} that its signature tells of. Call the plain method of the client, not "
                "one of its raw or streaming forms"
            )
            raise NotSerializableError(msg)
        try:
            if self._google:
                text = value.model_dump_json(
                    exclude_unset=True, exclude={"sdk_http_response", "parsed"}, warnings=False
                )
                return str(text).encode()
            data: dict[str, Any] = value.model_dump(
                mode="json", by_alias=True, exclude_unset=True, warnings=False
            )
            notes = {name: note for name in _NOTES if (note := getattr(value, name, None)) is not None}
            return msgspec.json.encode({**data, **notes})
        except Exception as error:  # serializers of models may raise anything
            msg = (
                f"The {self._where} can't be recorded: {error}. Report it as a bug, with the client's version"
            )
            raise NotSerializableError(msg) from error

    def decode(self, data: bytes | msgspec.Raw) -> Any:
        """The response that was recorded.

        Raises:
            UndecodableError: it can't be one.
        """
        try:
            if self._google:
                return self._parsed(self.kind.model_validate_json(bytes(data)))
            return self.build(msgspec.json.decode(data))
        except Exception as error:  # validators of models may raise anything
            msg = (
                f"The recorded {self._where} can't be read as a {self.kind.__qualname__}: {error}. It was edited, or "
                "the client's class has changed: use the version of the client that wrote it"
            )
            raise UndecodableError(msg) from error

    def build(self, data: dict[str, Any]) -> Any:
        """A response from the JSON that the provider has sent."""
        if self._google:
            return self.kind.model_validate(data)
        notes = {name: data.pop(name) for name in _NOTES if name in data}
        response = (
            self.kind(**data) if self.kind.__module__.startswith("litellm") else self.kind.construct(**data)
        )
        for name, note in notes.items():
            setattr(response, name, note)
        return response

    def _parsed(self, response: Any) -> Any:
        """What the client makes of the text by the schema that the call gives."""
        if self._schema is None or not (text := getattr(response, "text", None)):
            return response
        try:
            if inspect.isclass(self._schema) or hasattr(self._schema, "__origin__"):
                adapter = sys.modules["pydantic"].TypeAdapter(self._schema)
                enumerated = isinstance(self._schema, type) and hasattr(self._schema, "__members__")
                response.parsed = adapter.validate_python(text) if enumerated else adapter.validate_json(text)
            else:
                response.parsed = msgspec.json.decode(text)
        except ValueError:  # the model didn't keep to it: nothing is parsed, as in the client
            pass
        return response


def _is_response(value: Any) -> bool:
    return is_model(value)


def _filled(kind: Any, schema: Any) -> Any:
    """The class of responses with a parsed part, with that part's type."""
    origin = getattr(kind, "__pydantic_generic_metadata__", {}).get("origin")
    return kind if origin is None or not isinstance(schema, type) else origin[schema]


def response_of(method: Callable[..., Any]) -> Any:
    """The class of what a method returns, as its signature says: a stream, which it may also return, left aside.

    Raises:
        UsageError: it says nothing of the kind.
    """
    function = inspect.unwrap(getattr(method, "__func__", method))
    kind = _returned(function)
    if kind is None:
        msg = (
            f"llm() can't tell what {getattr(method, '__qualname__', method)!r} returns: give the method of a client, "
            "such as client.messages.create. For anything else write a @step"
        )
        raise UsageError(msg)
    return kind


@lru_cache(maxsize=256)
def _returned(function: Any) -> Any:
    def holder() -> None: ...

    # Its parameters are many, and their types slow to find out.
    holder.__annotations__ = {"return": function.__annotations__.get("return")}
    names = {**vars(typing), **vars(types), **vars(sys.modules[function.__module__])}
    try:
        hint = typing.get_type_hints(holder, globalns=names)["return"]
    except NameError:
        return None
    return next((part for part in _parts(hint) if is_model_class(part)), None)


def _parts(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [part for each in typing.get_args(hint) for part in _parts(each)]
    if origin in (Awaitable, Coroutine):
        return _parts(typing.get_args(hint)[-1])
    return [hint]
