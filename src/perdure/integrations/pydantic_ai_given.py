"""What an operation of an agent depends on, as plain data: the part of a step that replays and forks compare.

Requests hold much that changes from one execution to the next and doesn't change what a model answers: time stamps,
ids of runs, usage. That is left out, and so are fields that have their default, so that a version of pydantic-ai
that brings new ones doesn't make other requests of the same conversation. What has no form as data is known by its
type's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, cast
from uuid import UUID

import msgspec

from perdure.codec.kinds import class_of
from perdure.core.usage import Spend

__all__ = ["as_data", "at_most"]

#: Fields of messages and requests that say nothing to a model.
_VOLATILE = frozenset(
    {
        "capability_id",  # a random one, where none was given
        "conversation_id",
        "cost",
        "failed_attempts",
        "metadata",
        "provider_details",
        "provider_response_id",
        "provider_url",
        "run_id",
        "timestamp",
        "toolset_id",
        "usage",
        "workspace_ref",
    }
)
_PLAIN = frozenset({str, int, float, bool, type(None)})
_CONTAINERS = frozenset({list, dict, set, tuple})
_TEXTS = (UUID, Decimal, PurePath, datetime, date, time, timedelta)
_DEEPEST = 64

_BYTES_PER_TOKEN = 3  # or more, of text in any language
_TOKENS_PER_FILE = 2_000  # of a picture, or a page, with each of the providers
_FILES = frozenset(
    {"BinaryContent", "BinaryImage", "ImageUrl", "AudioUrl", "VideoUrl", "DocumentUrl", "UploadedFile"}
)


def as_data(value: Any) -> Any:
    """The same as plain JSON data, as far as it matters.

    >>> as_data({"when": datetime(2026, 1, 1), "tags": {"b", "a"}, "raw": b"x", "run": print})
    {'when': '2026-01-01 00:00:00', 'tags': ['a', 'b'], 'raw': '1b:269d', 'run': 'builtin_function_or_method'}
    """
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    kind = class_of(value)
    if kind is str:
        return value
    if kind in _PLAIN:
        return value if value == value and value not in (float("inf"), float("-inf")) else str(value)
    if depth > _DEEPEST:
        return kind.__qualname__
    if isinstance(value, Mapping):
        pairs: Mapping[Any, Any] = value  # pyright: ignore[reportUnknownVariableType]
        return {str(key): _plain(item, depth + 1) for key, item in pairs.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, set | frozenset):
        items = [_plain(item, depth + 1) for item in cast("set[Any]", value)]
        return sorted(items, key=msgspec.json.encode)
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(cast("bytes", value))
        return f"{len(data)}b:{blake2b(data, digest_size=2 if len(data) < 4 else 16).hexdigest()}"
    if isinstance(value, Enum):
        return _plain(value.value, depth + 1)
    if isinstance(value, _TEXTS):
        return str(value)
    if isinstance(value, str | int | float):  # of a class of their own
        return str(value)
    if (fields := _fields(value)) is not None:
        return {"is": kind.__name__} | {name: _plain(item, depth + 1) for name, item in fields}
    return kind.__qualname__


def _fields(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The fields of a dataclass, model or Struct that have another value than their default."""
    kind: Any = class_of(value)
    shape = _shape(kind)
    return None if shape is None else _told(value, shape)


@lru_cache(maxsize=1024)
def _shape(kind: type[Any]) -> tuple[tuple[str, Any], ...] | None:
    """Which fields of a class matter, and their defaults. None if it has no fields."""
    found: Iterable[tuple[str, Any]]
    if dataclasses.is_dataclass(kind):
        found = ((field.name, field.default) for field in dataclasses.fields(kind))
    elif isinstance(models := getattr(kind, "__pydantic_fields__", None), dict):
        fields = cast("dict[str, Any]", models)
        found = ((name, field.get_default(call_default_factory=False)) for name, field in fields.items())
    elif issubclass(kind, msgspec.Struct):
        found = ((field.name, field.default) for field in msgspec.structs.fields(kind))
    else:
        return None
    return tuple((name, default) for name, default in found if name[0] != "_" and name not in _VOLATILE)


def _told(value: Any, shape: tuple[tuple[str, Any], ...]) -> Iterator[tuple[str, Any]]:
    for name, default in shape:
        item = getattr(value, name, None)
        kind = class_of(item)
        if item is None or (kind in _PLAIN and kind is class_of(default) and item == default):
            continue
        if not item and kind in _CONTAINERS:
            continue
        yield name, item


def at_most(given: dict[str, Any]) -> Spend:
    """What a request to a model spends at most, by what it is given. Without a limit of its output nobody knows.

    >>> at_most({"model": "gpt-5", "messages": ["why?"], "settings": {"max_tokens": 100}})
    Spend(model='gpt-5', provider=None, input_tokens=5, output_tokens=100, cost=None)
    """
    settings = cast("dict[str, Any]", given.get("settings") or {})
    limit = settings.get("max_tokens")
    if not isinstance(limit, int):
        return Spend(given["model"])
    asked = [given.get("messages"), given.get("parameters")]
    text = -(-len(msgspec.json.encode(asked)) // _BYTES_PER_TOKEN)
    return Spend(given["model"], None, text + _files(asked) * _TOKENS_PER_FILE, limit)


def _files(data: Any) -> int:
    if isinstance(data, dict):
        fields = cast("dict[str, Any]", data)
        return int(fields.get("is") in _FILES) + sum(_files(part) for part in fields.values())
    if isinstance(data, list):
        parts: list[Any] = data  # pyright: ignore[reportUnknownVariableType]
        return sum(_files(part) for part in parts)
    return 0
