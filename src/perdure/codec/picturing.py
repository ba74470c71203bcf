"""Values as text for people, without running any code of theirs.

The values are those of a run that is looked at. Their classes are the user's, and what is in them came from outside:
a `__repr__` may fail, never end, or change something. So no method of theirs is called. Built-in types are read
by their own methods; of any other object the class's name is shown and what its instance holds: `__dict__` and slots,
read by the descriptors that Python itself has put into the class. Length, depth and number of items are
bounded, and so is the time it takes.

Secrets stay hidden: texts under names that say so, fields whose author has kept them out of `repr`, and objects of
classes that are called Secret.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import islice
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from perdure.codec.redaction import active, mask

TEXT_MAX = 300  #: characters of one string
WHOLE_MAX = 2000  #: characters of one value
ITEMS_MAX = 16  #: items of one container
TAIL = 3  #: of these, so many are the last ones of a list
DEPTH_MAX = 5
_BITS_MAX = 2000  # of an integer: turning larger ones into decimal digits takes long

HIDDEN = "(hidden)"
_SECRET_NAME = re.compile(
    r"(^|[-_.])(password|passwd|passphrase|secret|token|credential|cookie|authorization|api_?key|private_?key|access_?key)s?"
    r"([-_.]|$)",
    re.IGNORECASE,
)
_COUNTS = re.compile(r"tokens$", re.IGNORECASE)  # of language models

# without what type checkers conclude from them
_type: Callable[[object], Any] = type
_is: Callable[[Any, Any], bool] = issubclass
_TASK: Any = asyncio.Task
_DICT: Any = dict
_TUPLE: Any = tuple
_FUTURE: Any = asyncio.Future

_type_dict: Callable[[type], Mapping[str, Any]] = type.__dict__["__dict__"].__get__
_qualname: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__

_ZONES = (type(None), timezone, ZoneInfo)
#: Types of the standard library whose own repr may be asked.
_PLAIN = frozenset(
    {
        date,
        timedelta,
        Decimal,
        Fraction,
        UUID,
        PosixPath,
        PurePosixPath,
        PureWindowsPath,
        range,
        re.Pattern,
        timezone,
    }
    | {ZoneInfo, complex, float, bool, type(None), type(Ellipsis), type(NotImplemented)}
)


def is_secret_name(name: str) -> bool:
    """Whether what goes by this name is better not shown.

    >>> is_secret_name("api_key"), is_secret_name("access_token"), is_secret_name("tokens"), is_secret_name("monkey")
    (True, True, False, False)
    """
    return _SECRET_NAME.search(name) is not None and _COUNTS.search(name) is None


def type_text(value: object) -> str:
    """The name of a value's class."""
    return _qualname(_type(value))


def picture(value: object, name: str = "") -> str:
    """A value as text, at most about `WHOLE_MAX` characters long.

    Args:
        name: what the value goes by, which may say that it is a secret.

    >>> picture({"a": [1, 2.5, None], "b": "x" * 3})
    "{'a': [1, 2.5, None], 'b': 'xxx'}"
    >>> picture("hunter2", "password")
    '(hidden)'
    """
    if name and _keeps_secret(name, value):
        return HIDDEN
    try:
        text = _Drawing().of(value, 0)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, the rest is still to be seen
        text = f"<{_qualname(_type(value))}>"
    return text if len(text) <= WHOLE_MAX else text[: WHOLE_MAX - 1] + "…"


def _keeps_secret(name: Any, value: object) -> bool:
    if _type(name) is not str or not _is(_type(value), str | bytes):
        return False
    return is_secret_name(name)


class _Drawing:
    """One text in the making: how much of it may still come, and what it is inside of."""

    def __init__(self) -> None:
        self._left = WHOLE_MAX
        self._around: set[int] = set()

    def of(self, value: object, depth: int) -> str:
        text = self._of(value, depth)
        self._left -= min(len(text), 20)  # a container's parts have paid for themselves
        return text

    def _of(self, value: Any, depth: int) -> str:
        kind = _type(value)
        if _is(kind, Enum):
            return self._member(kind, value)
        if _is(kind, str):
            return _cut(value, str, "characters")
        if _is(kind, bytes):
            return _cut(value, bytes, "bytes")
        if _is(kind, bytearray):
            return (
                f"bytearray({_cut(bytes(bytearray.__getitem__(value, slice(0, TEXT_MAX))), bytes, 'bytes')})"
            )
        if _is(kind, int) and kind is not bool:
            bits = int.bit_length(value)
            return f"<an int of {bits:,} bits>" if bits > _BITS_MAX else int.__repr__(value)
        if _is(kind, float):
            return float.__repr__(value)
        if kind in _PLAIN:
            return _cut_plain(repr(value))
        if kind in (datetime, time):
            return _cut_plain(repr(value if _type(value.tzinfo) in _ZONES else value.replace(tzinfo=None)))
        if depth >= DEPTH_MAX or self._left <= 0:
            return "…"
        if id(value) in self._around:
            return f"<{_qualname(kind)}, around this>"
        self._around.add(id(value))
        try:
            return (
                self._container(kind, value, depth)
                or _known(kind, value, self, depth)
                or self._object(kind, value, depth)
            )
        finally:
            self._around.discard(id(value))

    def _container(self, kind: Any, value: Any, depth: int) -> str:
        if _is(kind, dict):
            size = _DICT.__len__(value)
            parts = [self.pair(key, item, depth) for key, item in islice(_DICT.items(value), ITEMS_MAX)]
            return self._named(kind, dict, "{" + ", ".join(_with_rest(parts, size)) + "}")
        if _is(kind, list):
            return self._named(kind, list, "[" + self._items(value, list, depth) + "]")
        if _is(kind, tuple):
            fields = _of_class(kind, "_fields")
            if kind is not tuple and _type(fields) is tuple:
                given = [(str(name), _TUPLE.__getitem__(value, place)) for place, name in enumerate(fields)]
                return f"{_qualname(kind)}({self.fields(given, depth)})"
            comma = "," if _TUPLE.__len__(value) == 1 else ""
            return self._named(kind, tuple, "(" + self._items(value, tuple, depth) + comma + ")")
        for base in (set, frozenset):
            if _is(kind, base):
                return self._set(kind, base, value, depth)
        if _is(kind, deque):
            return self._named(kind, None, "[" + self._items(value, deque, depth) + "]")
        return ""

    def _items(self, value: Any, base: Any, depth: int) -> str:
        size = base.__len__(value)
        if size <= ITEMS_MAX:
            return ", ".join(self.of(item, depth + 1) for item in islice(base.__iter__(value), ITEMS_MAX))
        head = [self.of(item, depth + 1) for item in islice(base.__iter__(value), ITEMS_MAX - TAIL)]
        tail = [self.of(base.__getitem__(value, place), depth + 1) for place in range(size - TAIL, size)]
        return ", ".join([*head, f"… {size - ITEMS_MAX:,} more …", *tail]) + f"; {size:,} items"

    def _set(self, kind: Any, base: Any, value: Any, depth: int) -> str:
        size = base.__len__(value)
        if not size:
            return f"{_qualname(kind)}()"
        # in an order that doesn't depend on hashes, which are others in each process
        parts = sorted(self.of(item, depth + 1) for item in islice(base.__iter__(value), 200))[:ITEMS_MAX]
        return self._named(kind, set, "{" + ", ".join(_with_rest(parts, size)) + "}")

    def _named(self, kind: Any, plain: type | None, text: str) -> str:
        return text if kind is plain else f"{_qualname(kind)}({text})"

    def pair(self, key: object, item: object, depth: int) -> str:
        """A key and its value in a mapping."""
        return (
            f"{self.of(key, depth + 1)}: {HIDDEN if _keeps_secret(key, item) else self.of(item, depth + 1)}"
        )

    def fields(self, given: list[tuple[str, Any]], depth: int) -> str:
        """Named parts of an object."""
        parts = [
            f"{name}={HIDDEN if _keeps_secret(name, item) else self.of(item, depth + 1)}"
            for name, item in given[:ITEMS_MAX]
        ]
        return ", ".join(_with_rest(parts, len(given)))

    def _member(self, kind: Any, value: object) -> str:
        inner = _instance_dict(kind, value).get("_name_")
        return f"{_qualname(kind)}.{inner}" if _type(inner) is str else f"<{_qualname(kind)}>"

    def _object(self, kind: Any, value: object, depth: int) -> str:
        name = _qualname(kind)
        if "secret" in name.lower():
            return f"{name}({HIDDEN})"
        silent = _silent_fields(kind)
        module = _type_dict(kind).get("__module__", "")
        ours = _type(module) is str and module.startswith("perdure.")
        if _is(kind, BaseException):
            parts = [self.of(arg, depth + 1) for arg in BaseException.args.__get__(value)[:ITEMS_MAX]]  # type: ignore[attr-defined]
            return f"{name}({', '.join(parts)})"
        if ours and not _is(kind, msgspec.Struct) and _of_class(kind, "__dataclass_fields__") is None:
            return f"<{name}>"
        held = [(attribute, item) for attribute, item in attributes(kind, value) if attribute not in silent]
        return f"{name}({self.fields(held, depth)})" if held else f"<{name}>"


# -- what is known of types -------------------------------------------------------------------------------


def _known(kind: Any, value: Any, drawing: _Drawing, depth: int) -> str:
    """Objects whose inside says less than their name; "" for all others."""
    if _is(kind, type):
        return f"<class {_qualname(value)}>"
    if kind in _CODE:
        return f"<{_CODE[kind]} {value.__qualname__}>"
    if kind is types.MethodType:
        function: Any = types.MethodType.__dict__["__func__"].__get__(value)
        known = function.__qualname__ if _type(function) is types.FunctionType else _qualname(_type(function))
        return f"<method {known}>"
    if kind is types.ModuleType:
        return f"<module {_instance_dict(kind, value).get('__name__')!s}>"
    if kind is functools.partial:
        return f"<partial of {drawing.of(value.func, depth + 1)}>"
    if kind is memoryview:
        return f"<memory of {value.nbytes:,} bytes>"
    if _is(kind, logging.Logger):
        return "<Logger>"
    if _is(kind, _TASK):
        done = "done" if _TASK.done(value) else "pending"
        return f"<Task {_cut_plain(str(_TASK.get_name(value)))!r}, {done}>"
    if _is(kind, _FUTURE):
        return f"<{_qualname(kind)}, {'done' if _FUTURE.done(value) else 'pending'}>"
    return _synchronising(kind, value, drawing, depth)


def _synchronising(kind: Any, value: Any, drawing: _Drawing, depth: int) -> str:
    held = _instance_dict(kind, value) if _type_dict(kind).get("__module__") in _ASYNCIO else {}
    if kind is asyncio.Event:
        return f"<Event, {'set' if held.get('_value') else 'not set'}>"
    if kind is asyncio.Lock:
        return f"<Lock, {'locked' if held.get('_locked') else 'free'}>"
    if kind in (asyncio.Semaphore, asyncio.BoundedSemaphore):
        return f"<{kind.__name__}, {drawing.of(held.get('_value'), depth + 1)} free>"
    if kind in (asyncio.Queue, asyncio.PriorityQueue, asyncio.LifoQueue):
        return f"<{kind.__name__} with {drawing.of(held.get('_queue'), depth + 1)}>"
    if kind is asyncio.TaskGroup:
        return f"<TaskGroup, {len(held.get('_tasks') or ())} tasks>"
    return f"<{_qualname(kind)}>" if held else ""


_CODE = {
    types.FunctionType: "function",
    types.BuiltinFunctionType: "built-in",
    types.CoroutineType: "coroutine",
    types.GeneratorType: "generator",
    types.AsyncGeneratorType: "async generator",
}
_ASYNCIO = frozenset({"asyncio.locks", "asyncio.queues", "asyncio.taskgroups", "asyncio.timeouts"})


def attributes(kind: Any, value: object) -> Iterator[tuple[str, Any]]:
    """What an instance holds, without asking its class: its dictionary, then its slots."""
    for name, item in islice(_instance_dict(kind, value).items(), 4 * ITEMS_MAX):
        if _type(name) is str and not name.startswith("__"):
            yield name, item
    for base in _mro(kind):
        for name, descriptor in _type_dict(base).items():
            if _type(descriptor) is types.MemberDescriptorType and not name.startswith("__"):
                try:
                    yield name, descriptor.__get__(value, kind)
                except AttributeError:  # nothing is in it yet
                    continue


def _instance_dict(kind: Any, value: object) -> dict[str, Any]:
    for base in _mro(kind):
        descriptor = _type_dict(base).get("__dict__")
        if descriptor is not None:
            if _type(descriptor) in (types.GetSetDescriptorType, types.MemberDescriptorType):
                found = descriptor.__get__(value, kind)
                return found if _type(found) is dict else {}
            return {}  # the class has put something of its own there
    return {}


def _of_class(kind: Any, name: str) -> Any:
    return next((_type_dict(base)[name] for base in _mro(kind) if name in _type_dict(base)), None)


def _silent_fields(kind: type) -> set[str]:
    """Fields that their class keeps out of its repr."""
    found: set[str] = set()
    for table in ("__dataclass_fields__", "__pydantic_fields__"):
        fields = _of_class(kind, table)
        if _type(fields) is dict:
            for name, field in fields.items():
                held = dict(attributes(_type(field), field))
                if held.get("repr") is False:
                    found.add(name)
    return found


# -- texts ------------------------------------------------------------------------------------------------


def _cut(value: Any, base: Any, unit: str) -> str:
    if base is str and active():
        value = mask(base.__str__(value))
    size = base.__len__(value)
    if size <= TEXT_MAX:
        return base.__repr__(value)  # type: ignore[no-any-return]
    return f"{base.__getitem__(value, slice(0, TEXT_MAX))!r}… ({size:,} {unit})"


def _cut_plain(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _with_rest(parts: list[str], size: int) -> list[str]:
    return parts if size <= len(parts) else [*parts, f"… {size - len(parts):,} more"]
