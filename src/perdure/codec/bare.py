"""Reading an exception without asking its class.

A user's class may define properties, `__getattribute__`, `__reduce__` or a metaclass, and any of them may
raise, lie or act. What is needed here lies in Python's own part of the object, and is read with Python's own
accessors, taken from where no class can override them.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from typing import Any, Final

from perdure.codec.redaction import mask

__all__ = [
    "attributes",
    "bases",
    "clean",
    "construction",
    "getset",
    "group_of",
    "is_native",
    "members_of",
    "message",
    "native_base",
    "set_cause",
    "type_name",
]

# By identity: comparing or hashing a class may run its metaclass.
_NATIVE: Final = {
    id(cls): cls
    for cls in vars(builtins).values()
    if isinstance(cls, type) and issubclass(cls, BaseException)
}

_MAX_MESSAGE: Final = 16_384

#: Fields of built-in exceptions that aren't worth keeping: `obj` is whatever object lacked an attribute.
_UNKEPT: Final = frozenset({"args", "obj"})

_type_dict: Final = vars(type)["__dict__"].__get__
_type_mro: Final = vars(type)["__mro__"].__get__
_type_base: Final = vars(type)["__base__"].__get__
_type_module: Final = vars(type)["__module__"].__get__
_type_qualname: Final = vars(type)["__qualname__"].__get__


def attributes(error: BaseException) -> dict[str, Any]:
    """Return the exception's `__dict__` itself."""
    own: dict[str, Any] = vars(BaseException)["__dict__"].__get__(error)
    return own


def getset(error: BaseException, name: str) -> Any:
    """Return `args`, `__cause__`, `__traceback__` or another of the attributes that every exception has."""
    return vars(BaseException)[name].__get__(error)


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set `__cause__`."""
    vars(BaseException)["__cause__"].__set__(error, cause)


def group_of(error: BaseException) -> tuple[str, tuple[BaseException, ...]] | None:
    """Return the message and the members of an exception group, None for other exceptions."""
    if not issubclass(type(error), BaseExceptionGroup):
        return None
    own = vars(BaseExceptionGroup)
    return own["message"].__get__(error), own["exceptions"].__get__(error)


def members_of(cls: type[Any]) -> Mapping[str, Any]:
    """Return what a class defines itself, by name."""
    members: Mapping[str, Any] = _type_dict(cls)
    return members


def bases(cls: type[Any]) -> tuple[type[Any], ...]:
    """Return a class and its bases, in the order of resolution."""
    order: tuple[type[Any], ...] = _type_mro(cls)
    return order


def is_native(cls: type[Any]) -> bool:
    """Whether `cls` is one of Python's built-in exception classes."""
    return id(cls) in _NATIVE


def native_base(cls: type[Any]) -> type[BaseException]:
    """Return the built-in exception class that lays out the instances of `cls`."""
    while not is_native(cls):
        cls = _type_base(cls)
    return _NATIVE[id(cls)]


def type_name(cls: type[Any]) -> str:
    """Return a class's qualified name, `module.QualName`."""
    module = _type_module(cls)
    return f"{module if isinstance(module, str) else '?'}.{_type_qualname(cls)}"


def construction(error: BaseException) -> tuple[list[Any], dict[str, Any]]:
    """Return how Python's own classes would make this exception again: their arguments and hidden fields.

    The arguments aren't always its `args`: an OSError keeps the file names apart, a group its members.
    """
    if group := group_of(error):
        return [group[0]], {}
    native = native_base(type(error))
    try:
        reduced: Any = native.__reduce__(error)
    except Exception:  # noqa: BLE001 - then at least its args
        return list(getset(error, "args")), {}
    # The third part, if there is one, mixes `__dict__` with what the built-in class keeps in its own fields.
    state: dict[str, Any] = (reduced[2] or {}) if len(reduced) > 2 else {}
    fields = {name for base in bases(native)[:-2] for name in vars(base)} - _UNKEPT
    return list(reduced[1]), {name: value for name, value in state.items() if name in fields}


def message(error: BaseException) -> str:
    """Return `str(error)` without secrets, shortened if it is very long, and as UTF-8 can express it."""
    try:
        text = str(error)
    # The one place where the class is asked after all: only it knows its text.
    except Exception as second:  # noqa: BLE001
        return f"<no text: __str__ raised {type_name(type(second))}>"
    return clean(mask(text))


def clean(text: str) -> str:
    """Return `text` as UTF-8 can express it, and not longer than 16 kB or so."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}... ({len(text):,} characters)"
