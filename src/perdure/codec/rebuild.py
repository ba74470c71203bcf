"""From a recorded failure back to an exception, without importing or running anything.

A history is data, and may have been written by someone else. So the class is looked up only among what the
program has loaded already, by reading dictionaries and never by asking for attributes: a module's
`__getattr__`, a metaclass or a property could run code. It must be an ordinary subclass of Exception, made
the way built-in exceptions are made. None of its code runs but one `str()` at the end: the rebuilt exception
counts only if it has the recorded type, arguments and text.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final

import msgspec

from perdure.codec.bare import (
    attributes,
    bases,
    clean,
    construction,
    is_native,
    members_of,
    native_base,
    set_cause,
    type_name,
)
from perdure.codec.foreign import encode_json
from perdure.codec.kinds import class_of
from perdure.core.events import Failure

__all__ = ["exception_of", "loaded_exception"]

_MAX_DEPTH: Final = 16

#: Exceptions that steer the interpreter instead of reporting a failure: raising one again would do harm.
_STEERING: Final = (StopIteration, StopAsyncIteration)

_module_dict: Final = vars(ModuleType)["__dict__"].__get__


def exception_of(failure: Failure) -> Exception | None:
    """Rebuild a recorded exception.

    Args:
        failure: what `failure_of` returned, then or now; or anything else of this shape.

    Returns:
        An exception of the recorded type with the recorded arguments, text, plain attributes, notes and, as
        far as they can be rebuilt, causes. None if its class isn't loaded or isn't an ordinary exception
        class, or if what comes out isn't the same.

    Example:
        >>> exception_of(Failure(type="builtins.KeyError", message="'k'", args=b'["k"]'))
        KeyError('k')
    """
    return _rebuild(failure, _MAX_DEPTH)


def _rebuild(failure: Failure, depth: int) -> Exception | None:
    if failure.args is None or depth == 0:
        return None
    cls = loaded_exception(failure.type)
    if cls is None or not _is_ordinary(cls):
        return None
    try:
        error = _make(cls, failure, depth)
        same_args = encode_json(construction(error)[0]) == failure.args
        same_text = clean(str(error)) == failure.message
    # Arguments that don't fit the class, damaged bytes, a __str__ that misses something: they all mean no.
    except Exception:  # noqa: BLE001
        return None
    if type(error) is not cls or not same_args or not same_text:
        return None
    if failure.notes:
        attributes(error)["__notes__"] = list(failure.notes)
    if failure.cause is not None:
        set_cause(error, _rebuild(failure.cause, depth - 1))
    return error


def loaded_exception(name: str) -> type[Exception] | None:
    """Find a loaded exception class by its qualified name."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module: object = sys.modules.get(".".join(parts[:cut]))
        if not issubclass(type(module), ModuleType):
            continue
        found: Any = _module_dict(module).get(parts[cut])
        for part in parts[cut + 1 :]:
            found = members_of(found).get(part) if issubclass(type(found), type) else None
        # A class found under another name than its own is an alias, or isn't what was recorded.
        if issubclass(type(found), type) and type_name(found) == name and _derives(found, Exception):
            return found  # type: ignore[no-any-return]
    return None


def _derives(cls: type[Any], base: type[Any]) -> bool:
    return any(known is base for known in bases(cls))


def _is_ordinary(cls: type[Exception]) -> bool:
    """Whether the class's instances are nothing but built-in exceptions with attributes."""
    if not any(type(cls) is plain for plain in (type, ABCMeta)):
        return False
    if any(_derives(cls, base) for base in _STEERING):
        return False
    for base in bases(cls):
        if base is object or is_native(base):
            continue
        members = members_of(base)
        if "__new__" in members or members.get("__slots__"):
            return False
    return True


def _make(cls: type[Exception], failure: Failure, depth: int) -> Exception:
    """Make an instance with nothing but the code of built-in classes."""
    args: list[Any] = msgspec.json.decode(failure.args or b"", type=list[Any])
    state: dict[str, Any] = msgspec.json.decode(failure.state or b"{}", type=dict[str, Any])
    native: Any = native_base(cls)
    if failure.members:
        members = [_rebuild(member, depth - 1) for member in failure.members]
        if None in members:
            raise ValueError("a member can't be rebuilt")
        args = [*args, members]
    error: Exception = native.__new__(cls, *args)
    # Some built-in classes take their arguments here. An `__init__` of the class's own isn't run.
    native.__init__(error, *args)
    for name, value in state.items():
        _restore(error, name, value)
    return error


def _restore(error: Exception, name: str, value: Any) -> None:
    """Give an exception back an attribute, unless its class has its own idea of what that does."""
    if name.startswith("__") or name in vars(BaseException):
        raise ValueError(f"{name} isn't an attribute of its own")
    for base in bases(type(error)):
        member = members_of(base).get(name)
        if member is None:
            continue
        if is_native(base) and isinstance(member, (GetSetDescriptorType, MemberDescriptorType)):
            member.__set__(error, value)
            return
        if any("__set__" in members_of(kind) for kind in bases(class_of(member))):
            raise ValueError(f"{name} is computed by the class")
        break
    attributes(error)[name] = value
