"""Secrets: what is recorded is where they are found, and never what they are.

A `Secret` is a reference, `{"from": "env", "name": "STRIPE_KEY"}`: it may be an argument, a field, a result, a part of
a message. The value is looked up when a step asks for it, each time anew, in the process that executes the step. So a
rotated key is taken up by the next attempt, and what nobody has written down can't leak from a backup.

A value that was revealed is masked in whatever texts of errors and logs it shows up in (see redaction.py).
"""

from __future__ import annotations

import hmac
import os
from asyncio.events import _get_running_loop
from collections.abc import Callable
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    NoReturn,
    TypeGuard,
    TypeVar,
    cast,
    final,
    get_args,
    get_origin,
    overload,
)

from perdure.codec.kinds import is_dict
from perdure.codec.redaction import remember
from perdure.codec.secret_sources import SOURCE, look_up, read_as
from perdure.core.loop import WorkflowLoop
from perdure.errors import ConfigurationError, NotSerializableError, UsageError

__all__ = [
    "ADVICE",
    "BARE",
    "Secret",
    "is_secret",
    "is_secret_class",
    "read_reference",
    "reference_of",
    "secret_schema",
]

T = TypeVar("T")
V = TypeVar("V")

BARE: Final = "a Secret made from a bare value has no reference that could be recorded"
ADVICE: Final = (
    'Give a reference, such as Secret.env("STRIPE_KEY"), Secret.file("/run/secrets/stripe") or Secret.of("vault", ...) '
    "with a resolver of yours (perdure.secrets.register), or make the Secret in the step that needs it."
)

_NAME_MAX: Final = 1000


@final
class Secret(Generic[T]):
    """Something that may be used and is never written down: an API key, a password, a certificate.

    Recorded, shown and sent is a reference: where it is found. `reveal()` looks the value up, in steps only.

    Args:
        value: the bare value. Such a Secret hides it as well, but can't be recorded, as it has no reference.

    Example:
        >>> key = Secret.env("STRIPE_KEY")
        >>> f"charging with {key}"
        'charging with Secret(env:STRIPE_KEY)'
    """

    __slots__ = ("_held", "_kind", "_name", "_source")

    _held: Callable[[], Any] | None
    _kind: Any
    _name: str
    _source: str

    def __init__(self, value: T) -> None:
        if isinstance(value, Secret):
            msg = "a Secret of a Secret: pass it on as it is"
            raise UsageError(msg)
        _set(self, "", "", type(value), lambda: value)

    @overload
    @classmethod
    def env(cls, name: str) -> Secret[str]: ...
    @overload
    @classmethod
    def env(cls, name: str, type: type[V]) -> Secret[V]: ...
    @classmethod
    def env(cls, name: str, type: Any = str) -> Any:
        """The secret in an environment variable of the process that executes the step.

        Args:
            name: the variable's name.
            type: what its text is read as: str, bytes, or any type as JSON.
        """
        return _reference("env", name, type)

    @overload
    @classmethod
    def file(cls, path: str | os.PathLike[str]) -> Secret[str]: ...
    @overload
    @classmethod
    def file(cls, path: str | os.PathLike[str], type: type[V]) -> Secret[V]: ...
    @classmethod
    def file(cls, path: str | os.PathLike[str], type: Any = str) -> Any:
        """The secret in a file, as containers get them. One line end at the end of a text isn't part of it.

        Args:
            path: an absolute path, as steps may execute elsewhere.
            type: what it is read as: str, bytes, or any type as JSON.
        """
        if not Path(path).is_absolute():
            msg = f"Secret.file({os.fspath(path)!r}): give an absolute path; the step may execute in another directory"
            raise ConfigurationError(msg)
        return _reference("file", os.fspath(path), type)

    @overload
    @classmethod
    def of(cls, source: str, name: str) -> Secret[str]: ...
    @overload
    @classmethod
    def of(cls, source: str, name: str, type: type[V]) -> Secret[V]: ...
    @classmethod
    def of(cls, source: str, name: str, type: Any = str) -> Any:
        """The secret that a resolver of yours finds, see `perdure.secrets.register`.

        Args:
            source: the resolver's name.
            name: what it is asked for.
            type: what its answer is read as.
        """
        return _reference(source, name, type)

    def reveal(self) -> T:
        """The value, looked up now.

        Raises:
            UsageError: in workflow code, as another process, or tomorrow's, may see another value.
            SecretUnavailableError: it can't be found here; says where it was looked for.
        """
        if isinstance(_get_running_loop(), WorkflowLoop):
            msg = (
                f"{self!r} was revealed in workflow code, where a replay may see another value than the first time. "
                "Pass the Secret to a step, and reveal it there"
            )
            raise UsageError(msg)
        if self._held is not None:
            value = self._held()
            remember(value)
            return cast("T", value)
        found = look_up(self._source, self._name)
        told = f"{self._source}:{self._name}"
        remember(found, told)
        value = read_as(found, self._kind, told)
        remember(value, told)
        return cast("T", value)

    def __repr__(self) -> str:
        if self._held is not None:
            return "Secret(***)"
        kind = "" if self._kind is str else f", {getattr(self._kind, '__name__', self._kind)}"
        return f"Secret({self._source}:{self._name}{kind})"

    def __str__(self) -> str:
        return repr(self)

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not is_secret(other):
            return NotImplemented
        if self._held is None or other._held is None:
            # Not the type: that is said by whoever declares it, and a reference is read as what is declared.
            return self._held is other._held and (self._source, self._name) == (other._source, other._name)
        mine, theirs = self._held(), other._held()
        if isinstance(mine, str) and isinstance(theirs, str):
            return hmac.compare_digest(
                mine.encode("utf-8", "surrogatepass"), theirs.encode("utf-8", "surrogatepass")
            )
        return bool(type(mine) is type(theirs) and mine == theirs)

    def __hash__(self) -> int:
        return hash((self._source, self._name))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        msg = f"a Secret can't be changed: {name}"
        raise AttributeError(msg)

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __copy__(self) -> Secret[T]:
        return self

    def __deepcopy__(self, memo: object) -> Secret[T]:
        return self

    def __getstate__(self) -> dict[str, str]:
        return reference_of(self)

    def __reduce__(self) -> Any:
        reference_of(self)  # a bare one can't leave the process
        return _reference, (self._source, self._name, self._kind)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def take(value: Any) -> Secret[Any]:
            try:
                return value if is_secret(value) else read_reference(source, value)
            except TypeError as error:
                raise ValueError(str(error)) from None

        return core_schema.no_info_plain_validator_function(
            take,
            serialization=core_schema.plain_serializer_function_ser_schema(reference_of, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        return secret_schema()


def is_secret(value: object) -> TypeGuard[Secret[Any]]:
    """Whether a value is a Secret."""
    return isinstance(value, Secret)


def is_secret_class(cls: object) -> bool:
    """Whether a type is Secret, or Secret[...]."""
    return cls is Secret or get_origin(cls) is Secret


def reference_of(secret: Secret[Any]) -> dict[str, str]:
    """What is recorded of a secret.

    Raises:
        NotSerializableError: it was made from a bare value.
    """
    if secret._held is not None:
        msg = f"{BARE}. {ADVICE}"
        raise NotSerializableError(msg)
    return {"from": secret._source, "name": secret._name}


def read_reference(kind: Any, plain: object) -> Secret[Any]:
    """A recorded reference as a Secret.

    Args:
        kind: the declared type, `Secret` or `Secret[...]`.

    Raises:
        TypeError: it isn't a reference. The text never holds what was given instead, as that may be the value.
    """
    if is_dict(plain):
        source, name = plain.get("from"), plain.get("name")
        if len(plain) == 2 and isinstance(source, str) and isinstance(name, str) and SOURCE.fullmatch(source):
            (inner,) = get_args(kind) or (str,)
            return _reference(source, name, str if inner is Any or isinstance(inner, TypeVar) else inner)
    remember(plain, "given as its value")
    msg = 'Expected a reference to a secret, such as {"from": "env", "name": "STRIPE_KEY"}; its value is never taken'
    raise TypeError(msg)


def secret_schema() -> dict[str, Any]:
    """What a secret looks like, as JSON Schema: whoever fills in a form gives its place, and never the value."""
    return {
        "title": "Secret",
        "description": "Where a secret is found, never its value.",
        "type": "object",
        "properties": {
            "from": {
                "type": "string",
                "description": "env, file, or the name of a resolver",
                "examples": ["env", "file"],
            },
            "name": {
                "type": "string",
                "description": "the variable's name, the file's path, or what the resolver is asked for",
            },
        },
        "required": ["from", "name"],
        "additionalProperties": False,
        "x-perdure-secret": True,
    }


# -- the inside -------------------------------------------------------------------------------------------


def _reference(source: str, name: str, kind: Any) -> Secret[Any]:
    if not SOURCE.fullmatch(source) or not name or len(name) > _NAME_MAX or "\0" in name:
        msg = (
            f"Secret.of({source!r}, {name[:80]!r}): a secret has the name of a resolver, and a name of 1 to "
            f"{_NAME_MAX} characters"
        )
        raise ConfigurationError(msg)
    kind_of_any: type[Secret[Any]] = Secret
    secret = object.__new__(kind_of_any)
    _set(secret, source, name, kind, None)
    return secret


def _set(secret: Secret[Any], source: str, name: str, kind: Any, held: Callable[[], Any] | None) -> None:
    for slot, value in (("_source", source), ("_name", name), ("_kind", kind), ("_held", held)):
        object.__setattr__(secret, slot, value)
