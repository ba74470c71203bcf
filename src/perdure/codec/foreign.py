"""JSON, and the types that msgspec leaves to its user: paths and pydantic models, and those of pydantic-ai.

pydantic is never imported here. A value can only be a model if the program has imported pydantic already, so
`sys.modules` tells all there is to know. Models are written and read by field name, not by alias: names
survive where the aliases for reading and for writing differ.

Messages of pydantic-ai are unions of dataclasses that pydantic tells apart, which msgspec can write and not read. So
pydantic reads whatever mentions them.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from typing import Any, ClassVar, Protocol, TypeGuard, get_args, get_origin, get_type_hints

import msgspec

from perdure.codec.secret import is_secret, is_secret_class, read_reference, reference_of

__all__ = [
    "decode_hook",
    "dump_model",
    "encode_hook",
    "encode_json",
    "is_model",
    "is_model_class",
    "model_fields",
    "reader_of",
]


class Model(Protocol):
    """The part of a pydantic model that the codec uses."""

    __pydantic_fields__: ClassVar[dict[str, Any]]
    __pydantic_extra__: dict[str, Any] | None

    def model_dump_json(self, **options: Any) -> str: ...

    @classmethod
    def model_validate_json(cls, data: bytes, **options: Any) -> Model: ...


def is_model_class(cls: object) -> TypeGuard[type[Model]]:
    """Whether `cls` is a pydantic model class."""
    main = sys.modules.get("pydantic.main")
    base = getattr(main, "BaseModel", None)
    return isinstance(base, type) and isinstance(cls, type) and issubclass(cls, base)


def is_model(value: object) -> TypeGuard[Model]:
    """Whether `value` is an instance of a pydantic model."""
    return is_model_class(type(value))


def model_fields(model: Model) -> dict[str, Any]:
    """Return a model's declared and extra fields by name. Private attributes aren't data."""
    declared = {name: getattr(model, name, None) for name in type(model).__pydantic_fields__}
    return declared | (model.__pydantic_extra__ or {})


@lru_cache(maxsize=1)
def _by_name() -> bool:
    # An option of models since pydantic 2.11; before, only aliases can be read back.
    version: str = sys.modules["pydantic"].VERSION
    major, minor = version.split(".")[:2]
    return (int(major), int(minor)) >= (2, 11)


def dump_model(model: Model) -> bytes:
    """Return a model's JSON. What its serializers leave out is found later, by comparing what comes back."""
    return model.model_dump_json(by_alias=not _by_name(), round_trip=True, warnings=False).encode()


def _load_model(cls: type[Model], data: bytes) -> object:
    options = {"by_alias": False, "by_name": True} if _by_name() else {}
    try:
        return cls.model_validate_json(data, **options)
    except ValueError as error:
        raise _in_short(error, cls.__name__) from error


def _in_short(error: ValueError, whole: str) -> ValueError:
    """pydantic's own text spans many lines, with a link on each."""
    if (details := getattr(error, "errors", None)) is None:
        return error
    found = details(include_url=False, include_context=False, include_input=False)
    told = (f"{'.'.join(map(str, item['loc'])) or whole}: {item['msg']}" for item in found)
    return ValueError("; ".join(told))


class Reader:
    """Reads values of types that mention pydantic-ai's.

    Args:
        adapter: pydantic's.
        context: what it validates with.
    """

    def __init__(self, adapter: Any, context: object) -> None:
        self._adapter = adapter
        self._context = context

    def read(self, data: bytes | msgspec.Raw) -> Any:
        """The value of which this is the JSON."""
        try:
            return self._adapter.validate_json(bytes(data), context=self._context)
        except ValueError as error:
            raise _in_short(error, "$") from error

    def same(self, value: object, decoded: object) -> bool:
        """Whether nothing is lost. The class may be another one: a picture was only some content before."""
        dump = self._adapter.dump_json
        return bool(dump(value, warnings=False) == dump(decoded, warnings=False))


def reader_of(annotation: Any) -> Reader | None:
    """What reads values of types that mention pydantic-ai's; None for all others."""
    messages = sys.modules.get("pydantic_ai.messages")
    if messages is None or not _mentions(annotation, 8):
        return None
    pydantic: Any = sys.modules["pydantic"]
    # With this, files in what tools have returned are files again.
    return Reader(pydantic.TypeAdapter(annotation), getattr(messages, "_JOURNAL_CONTEXT", None))


def _mentions(annotation: Any, depth: int) -> bool:
    """Whether one of pydantic-ai's types is in it, or in a field of a dataclass in it."""
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and kind.__module__.partition(".")[0] == "pydantic_ai":
        return True
    if depth == 0:
        return False
    inner: list[Any] = list(get_args(annotation))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        try:
            inner += get_type_hints(kind, include_extras=True).values()
        except (NameError, TypeError):  # that is told when it is built
            return False
    return any(_mentions(part, depth - 1) for part in inner)


def encode_hook(value: object) -> object:
    """Turn a value that msgspec doesn't know into one that it does; its `enc_hook`."""
    if isinstance(value, PurePath):
        return str(value)
    if is_model(value):
        return msgspec.Raw(dump_model(value))
    if is_secret(value):
        return reference_of(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def decode_hook(type: type[Any], plain: object) -> object:
    """Turn plain data into an instance of a type that msgspec doesn't know; its `dec_hook`."""
    if type is object:
        return plain
    if is_secret_class(type):
        return read_reference(type, plain)
    if is_model_class(type):
        return _load_model(type, encode_json(plain))
    if issubclass(type, PurePath) and isinstance(plain, str):
        return type(plain)
    raise TypeError(f"Expected `{type.__qualname__}`, got `{plain.__class__.__name__}`")


#: JSON bytes of any value that has them, dicts in their own order.
encode_json: Callable[[object], bytes] = msgspec.json.Encoder(enc_hook=encode_hook).encode
