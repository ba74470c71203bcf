"""The arguments of a call as data: what a history keeps and compares, and what a fork may change.

Most of what one gives a client is data already. The rest is one of these:

    models of pydantic, tuples, enums, dates   data by another name, as the client itself would send it
    bytes                                      {"$bytes": "<base64>"}
    classes, functions, files, images          {"$live": 0, "is": "class app.Facts"}: described here, used as they are
    headers, keys, time limits                 left out: they don't make another answer, and are nobody's business

What is live is put back from the call that the code makes now, so a replay or a fork needs nothing of it from the
history, and the history holds no secret.
"""

from __future__ import annotations

import base64
import datetime
import enum
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, cast

from perdure.codec.foreign import is_model, is_model_class
from perdure.errors import UsageError

BYTES, LIVE = "$bytes", "$live"
#: What looks like one of these, and is data: what a model has made up, say, mustn't get hold of what is live.
DATA = "$data"
#: From so many bytes, or characters of base64, a file is described by its digest.
FILE_MIN = 8_192
_MARKS = frozenset({BYTES, LIVE, DATA})

#: Arguments that say how to reach a provider, not what to ask it.
_UNRECORDED = frozenset(
    {
        "api_base", "api_key", "api_version", "base_url", "client", "credentials", "extra_headers", "extra_query",
        "headers", "http_options", "max_retries", "num_retries", "request_timeout", "timeout", "vertex_credentials",
    }
)  # fmt: skip
#: Within tools and servers of tools: what lets the provider in there.
_SECRET = frozenset(
    {
        "access_token", "api_key", "apikey", "auth", "authorization", "authorization_token", "client_secret", "headers",
        "http_headers", "http_options", "oauth_token", "password", "secret", "token",
    }
)  # fmt: skip
#: Arguments that have such parts.
_GUARDED = frozenset({"tools", "mcp_servers", "config", "container", "environment", "extra_body"})
_SENTINELS = frozenset({"NotGiven", "Omit"})


def is_table(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is what JSON calls an object."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a value is what JSON calls an array."""
    return isinstance(value, list)


def _is_file(value: str | bytes | bytearray) -> bool:
    """Bytes, or a long text without any space: an image in base64, say."""
    return not isinstance(value, str) or not any(char.isspace() for char in value[:FILE_MIN])


def _is_several(value: object) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Sequence | set | frozenset) or inspect.isgenerator(value)


class Given:
    """The arguments of one call.

    Args:
        arguments: by name.
        secret: whether an argument's name is that of a secret.

    Attributes:
        data: what is recorded.
    """

    __slots__ = ("_apart", "_live", "data")

    def __init__(self, arguments: Mapping[str, Any], secret: Callable[[str], bool]) -> None:
        self._live: list[Any] = []
        self._apart: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        for name, value in arguments.items():
            if type(value).__name__ in _SENTINELS:  # the clients' own word for "not given"
                continue
            if name in _UNRECORDED or secret(name):
                self._apart[name] = value
            else:
                self.data[name] = self._plain(value, name in _GUARDED)

    def arguments(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What to call the client with.

        Args:
            data: what was recorded, or what a fork gives instead.

        Raises:
            UsageError: it refers to something live that the call doesn't have.
        """
        return {**{name: self._restored(value) for name, value in data.items()}, **self._apart}

    def body(self) -> dict[str, Any]:
        """What the provider is asked, without how to reach it."""
        return {name: self._restored(value) for name, value in self.data.items()}

    def _plain(self, value: Any, guarded: bool) -> Any:
        if isinstance(value, str | bytes | bytearray) and len(value) >= FILE_MIN and _is_file(value):
            content = value.encode(errors="replace") if isinstance(value, str) else value
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            return self._as_live(value, f"file of {len(content)} bytes, {digest}")
        if value is None or (
            isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)
        ):
            return value
        if isinstance(value, enum.Enum):
            return self._plain(value.value, guarded)
        if isinstance(value, bytes | bytearray):
            return {BYTES: base64.b64encode(value).decode()}
        if isinstance(value, datetime.datetime | datetime.date):
            return value.isoformat()
        if is_model(value):
            return self._of_model(value, guarded)
        if is_table(value):
            data = {str(key): self._part(str(key), part, guarded) for key, part in value.items()}
            return data if _MARKS.isdisjoint(data) else {DATA: data}
        if _is_several(value):
            return [self._plain(part, guarded) for part in value]
        return self._as_live(value, _described(value))

    def _part(self, key: str, part: Any, guarded: bool) -> Any:
        """A secret within a description of a tool stays here; a parameter of that name is no secret."""
        if guarded and key.replace("-", "_").casefold() in _SECRET and _is_secret(part):
            return self._as_live(part, "a secret")
        return self._plain(part, guarded)

    def _of_model(self, model: Any, guarded: bool) -> Any:
        """The fields that were set, by the names that the provider knows."""
        fields: dict[str, Any] = {}
        known: Mapping[str, Any] = model.__class__.model_fields
        google = _is_google(model)
        for name in model.model_fields_set:
            if (value := getattr(model, name, None)) is not None or not google:
                alias: str | None = None if google or name not in known else known[name].alias
                fields[alias or name] = self._part(name, value, guarded)
        extra: Mapping[str, Any] = model.model_extra or {}
        for name, value in extra.items():
            fields[name] = self._part(name, value, guarded)
        return fields

    def _as_live(self, value: Any, described: str) -> dict[str, Any]:
        self._live.append(value)
        return {LIVE: len(self._live) - 1, "is": described}

    def _restored(self, value: Any) -> Any:
        if is_list(value):
            return [self._restored(part) for part in value]
        if not is_table(value):
            return value
        if _is_mark(value, DATA) and is_table(value[DATA]):
            return {key: self._restored(part) for key, part in value[DATA].items()}
        if _is_mark(value, BYTES):
            return base64.b64decode(value[BYTES])
        if _is_mark(value, LIVE):
            at = value[LIVE]
            if not isinstance(at, int) or not 0 <= at < len(self._live):
                msg = (
                    f"{value!r} refers to something that the call in the workflow doesn't have: a class, a function "
                    "or a secret. Give data instead, or change the code of the workflow"
                )
                raise UsageError(msg)
            return self._live[at]
        return {key: self._restored(part) for key, part in value.items()}


def _is_mark(value: Any, mark: str) -> bool:
    return is_table(value) and mark in value and set(value) <= {mark, "is"}


def _is_secret(value: Any) -> bool:
    """Texts, and tables of texts; but not the schema of a parameter of that name."""
    if is_table(value):
        return "type" not in value and "properties" not in value
    return isinstance(value, str | bytes) or is_model(value)


def _is_google(model: Any) -> bool:
    """Its models are given by the names of their fields, and None means nothing there."""
    return any(kind.__module__.startswith("google.") for kind in type(model).__mro__)


def _described(value: Any) -> str:
    """What something live is, in words that change when it becomes something else."""
    if isinstance(value, type):
        text = f"class {value.__module__}.{value.__qualname__}"
        if is_model_class(value):
            schema = json.dumps(cast("Any", value).model_json_schema(), sort_keys=True)
            text += f" {hashlib.blake2b(schema.encode(), digest_size=6).hexdigest()}"
        return text
    if callable(value) and hasattr(value, "__qualname__"):
        return f"function {value.__module__}.{value.__qualname__}"
    if not isinstance(value, type) and hasattr(value, "__origin__"):  # list[Facts], say
        return f"type {value}"
    return f"a {type(value).__module__}.{type(value).__qualname__}"
